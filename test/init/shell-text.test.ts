import t from 'tap'
import { readDsn } from '../../src/init/dsn.ts'
import { readShell } from '../../src/init/shell-text.ts'

const read = (text: string, variables: Record<string, string> = {}) =>
  readShell(text, new Map(Object.entries(variables)))

t.test('calls of pg_dump', async (t) => {
  const cases: [name: string, text: string, calls: object[]][] = [
    [
      'the script of many',
      `#!/bin/bash\n# pg_dump old > /old/x\nDIR="/var/backups/spavix"\nexport DB=spavix\n/usr/bin/pg_dump -Fc -U postgres "$DB" | gzip > "$DIR/\${DB}_backup_$(date +"%Y%m%d %H").sql.gz" 2>> /var/log/x.log`,
      [{ program: 'pg_dump', database: 'spavix', directory: '/var/backups/spavix' }],
    ],
    ['cd', "cd '/srv/a b' && pg_dump app > app.sql", [{ database: 'app', directory: '/srv/a b' }]],
    [
      'in quotes, for another user',
      'su - postgres -c "pg_dumpall > /srv/all/x.sql"',
      [{ program: 'pg_dumpall', database: null, directory: '/srv/all' }],
    ],
    [
      'a loop',
      'for db in a b; do\n  pg_dump "$db" \\\n    -f "/b/$db/x.dump"\ndone',
      [{ database: null, directory: '/b' }],
    ],
    [
      'a connection string',
      "sudo -u x pg_dump --dbname='postgresql://u:ge%20heim@h/app' --file ~/d/x",
      [{ database: 'app', directory: '/home/me/d' }],
    ],
    ['pairs', `pg_dump -d "host=h password=geheim dbname=app" > /d/x`, [{ database: 'app', directory: '/d' }]],
    ['the environment', 'PGDATABASE=app PGPASSWORD=geheim pg_dump >/d/x', [{ database: 'app', directory: '/d' }]],
    ['inside of a substitution', 'OUT=$(pg_dump app > /d/x)', [{ database: 'app', directory: '/d' }]],
    ['nowhere', 'pg_dump app > /dev/null', [{ database: 'app', directory: null }]],
    ['text for a program', 'cat <<END\npg_dump app > /d/x\nEND\nls /x', []],
    ['something else', 'my_pg_dump app; echo pg_dumping', []],
  ]
  for (const [name, text, calls] of cases) {
    const facts = read(text, { HOME: '/home/me' })
    t.match(facts.calls, calls, name)
    t.equal(facts.calls.length, calls.length, name)
    t.notMatch(JSON.stringify(facts), 'geheim')
  }
})

t.test('paths, as far as they are known', async (t) => {
  const { paths } = read(
    '. /etc/b.conf\nD=/a/b\nls "$D/$(hostname)/x" \'/c d\' /dev/null / ../up $NOPE/x\ncd /e; ./run.sh; TOKEN=/secret',
  )
  t.same(paths, ['/etc/b.conf', '/a/b', '/c d', '/e', '/e/run.sh'])
})

t.test('no text takes long, whatever is in it', async (t) => {
  const bits = [
    '"',
    "'",
    '$(',
    '`',
    '\\',
    '<<X\n',
    'a b ',
    'pg_dump > /x/y |',
    '${',
    '((',
    'a=b ',
    '\\\n',
    '&>',
    '"a',
    '/a ',
    'a=$a$a\n',
    '"pg_dump \n',
  ]
  for (const bit of bits) {
    const facts = read(bit.repeat(Math.floor((256 * 1024) / bit.length)))
    t.ok(facts.calls.length <= 1000 && facts.paths.length <= 1000, JSON.stringify(bit))
  }
})

t.test('connection strings', async (t) => {
  t.match(readDsn('postgresql://u:p%40@[::1]:5433/app?sslmode=require'), {
    host: '::1',
    port: 5433,
    user: 'u',
    password: 'p@',
    database: 'app',
    sslMode: 'require',
  })
  t.match(readDsn('postgres://u@/app?host=/tmp'), { host: '/tmp', port: null, user: 'u', database: 'app' })
  t.match(readDsn("host=h dbname='it\\'s' password=a\\ b"), { host: 'h', database: "it's", password: 'a b' })
  for (const text of ['', 'app', 'postgres://%zz@h', 'host', "a = 'b", 'host=h nonsense'])
    t.equal(readDsn(text), null, text)
})
