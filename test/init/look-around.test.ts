import { chmod, mkdir, rename, symlink, utimes, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { loadConfig } from '../../src/config/load.ts'
import { type LookOptions, lookAround } from '../../src/init/look-around.ts'
import { archiveCommand } from '../../src/postgres/archiving.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { untilAnswer } from '../support/until.ts'

const dump = '--\n-- PostgreSQL database dump\n--\n'
const nobodyListens = 1

/** Files by path below a new root, and a look at it. */
async function machine(t: Test, files: Readonly<Record<string, string | Buffer>> = {}) {
  const root = await scratchDirectory(t)
  const put = async (path: string, contents: string | Buffer, at?: Date) => {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), contents)
    if (at !== undefined) await utimes(join(root, path), at, at)
  }
  for (const [path, contents] of Object.entries(files)) {
    await put(path, typeof contents === 'string' ? contents.replaceAll('ROOT', root) : contents)
  }
  const look = (options: Partial<LookOptions> = {}) =>
    lookAround({
      root,
      localPort: nobodyListens,
      dsn: null,
      lookIn: [],
      watchOnly: false,
      env: {},
      osUser: 'nobody',
      clock: systemClock,
      signal: new AbortController().signal,
      ...options,
    })
  return { root, put, look }
}

const told = (findings: readonly { area: string; what: string }[], area: string) =>
  findings
    .filter((one) => one.area === area)
    .map(({ what }) => what)
    .join('\n')

t.test('nothing is there', async (t) => {
  const { look } = await machine(t)
  const { config, findings, namesSecret } = await look()
  t.match(told(findings, 'server'), 'no server was found')
  t.match(told(findings, 'dumps'), /no dumps were found.*--look-in/)
  t.match(config, '# watch:')
  t.notOk(namesSecret)
  const loaded = await loadConfig({ text: config, env: {} })
  const watchOnly = await look({ watchOnly: true })
  t.match(watchOnly.config, /None was found: fill one in.*\nwatch:\n/)
  t.match(loaded, { cluster: 'main', repositories: [{ path: '/var/backups/lifeboat' }], watch: [] })
})

t.test('crontabs, scripts, and what they have written', async (t) => {
  const { root, put, look } = await machine(t, {
    'etc/crontab': 'SHELL=/bin/sh\n30 2 * * 1-5 root . /nowhere; ROOT/opt/backup.sh >> /var/log/backup.log 2>&1\n',
    'opt/backup.sh':
      '#!/bin/bash\n. ROOT/opt/backup.conf\npg_dump -U postgres "$DB" | gzip > "$DIR/backup_$(date +%Y%m%d).sql.gz"\n',
    'opt/backup.conf': 'DIR=ROOT/srv/dumps\nDB=spavix\nexport PGPASSWORD=geheim\n',
    'etc/cron.daily/all': '#!/bin/sh\npg_dumpall > ROOT/gone/all.sql\n',
    'var/spool/cron/crontabs/me': '@hourly pg_dump postgresql://u:geheim@h/app > ~/d/app_$(date +\\%s).dump % input\n',
    'etc/passwd': 'me:x:1000:1000::ROOT/home/me:/bin/sh\n',
    'var/backups/dpkg.status.1.gz': gzipSync('x'),
    'var/backups/home_20260101.tar.gz': gzipSync('no dump'),
  })
  await mkdir(join(root, 'home/me/d'), { recursive: true })
  for (const day of [1, 2, 3, 4, 5]) {
    await put(`srv/dumps/backup_2026010${day}.sql.gz`, gzipSync(dump), new Date(`2026-01-0${day}T02:30:00Z`))
    await put(`var/backups/nightly/crm-2026010${day}.dump`, 'PGDMP', new Date(`2026-01-0${day}T02:30:00Z`))
  }
  const { config, findings } = await look()
  t.notMatch(JSON.stringify([config, findings]), 'geheim')
  t.match(told(findings, 'cron'), `/etc/crontab (30 2 * * 1-5): pg_dump of spavix into ${root}/srv/dumps`)
  t.match(told(findings, 'cron'), /cron\.daily\/all \(25 6 \* \* \*\): pg_dumpall of every database/)
  t.match(told(findings, 'cron'), /crontabs\/me \(0 \* \* \* \*\): pg_dump of app into .*home\/me\/d/)
  t.match(told(findings, 'dumps'), `${root}/gone is not there`)
  t.notMatch(told(findings, 'dumps'), 'home_')
  const { watch, repositories } = await loadConfig({ text: config, env: {} })
  t.same(repositories, [], 'without a server it is to watch')
  t.match(
    watch.toSorted((a, b) => a.directory.localeCompare(b.directory)),
    [
      // Five days of the week: Friday to Monday, and half a day.
      {
        directory: join(root, 'srv/dumps'),
        pattern: 'backup_{timestamp}{ext}',
        database: 'spavix',
        maxAgeSeconds: 84 * 3600,
      },
      {
        directory: join(root, 'var/backups/nightly'),
        pattern: '{database}-{timestamp}{ext}',
        database: null,
        maxAgeSeconds: 30 * 3600,
      },
    ],
  )
  t.match(config, '# 5 files, usually 1d apart; written by')
})

t.test('what is there to mislead', { timeout: 60_000 }, async (t) => {
  const { root, put, look } = await machine(t, {
    'etc/cron.d/loop': '* * * * * root ROOT/a.sh\n',
    'a.sh': 'ROOT/b.sh\npg_dump x > ROOT/f/x.sql\n',
    'b.sh': 'ROOT/a.sh\nROOT/pipe\n',
    'etc/cron.d/long': Buffer.alloc(2 ** 20, 'a'),
    'etc/cron.d/binary': Buffer.from('* * * * * root pg_dump\0'),
    'etc/cron.d/odd': `* * * * * root pg_dump "$(printf x)\u001b[31m'\n"\n99 99 * * * root pg_dump y > /nope/x\n`,
  })
  await runProgram({ program: 'mkfifo', args: [join(root, 'pipe'), join(root, 'etc/cron.d/pipe')] })
  await symlink('/dev/zero', join(root, 'etc/cron.d/zero'))
  await symlink(root, join(root, 'var'))
  const names = [
    'it\'s "quoted"_20260101.sql',
    'a\nkey: value\n#_20260102.sql',
    '\u001b]0;x\u0007\u202e_20260103.sql',

    '- !!js _20260105.sql',
  ]
  await put('backup/{x}*_20260104.sql', dump)
  for (const name of names) await put(`backup/${name}`, dump)
  await put('backup/new\nline/app_20260101.sql', dump)
  await put('backup/od"d: # [d]/app_20260101.sql', dump)
  await put(`backup/${'x'.repeat(200)}_20260101.sql`, dump)
  await rename(join(root, 'backup'), join(root, 'backups'))
  const { config, findings } = await look()
  for (const what of [
    'etc/cron.d/pipe is no regular file',
    'zero is no regular file',
    'long is larger than 256 KiB',
    'binary is binary',
  ])
    t.match(told(findings, 'cron'), what)
  t.match(told(findings, 'dumps'), /new\nline has a name that no configuration can hold/)
  t.notMatch(config, /[^\P{Cc}\n]|\p{Cf}/u, 'nothing moves the cursor')
  const { watch } = await loadConfig({ text: config, env: {} })
  t.ok(watch.some(({ directory }) => directory.endsWith('od"d: # [d]')))
  const here = watch.filter(({ directory }) => directory.endsWith('/backups'))
  for (const name of names) t.equal(here.filter(({ match }) => match(name) !== null).length, 1, JSON.stringify(name))
})

t.test('places that are closed are named', async (t) => {
  const { root, look } = await machine(t, { 'etc/cron.d/x': 'x', 'backup/x': 'x' })
  for (const path of ['etc/cron.d', 'backup']) await chmod(join(root, path), 0)
  const isRoot = userInfo().uid === 0
  if (isRoot) process.seteuid?.('nobody') // root may read everything
  const { findings } = await look().finally(() => {
    if (isRoot) process.seteuid?.(0)
  })
  t.match(told(findings, 'cron'), 'etc/cron.d may not be read')
  t.match(told(findings, 'dumps'), 'backup may not be read')
})

t.test('a server', { timeout: 60_000 }, async (t) => {
  const cluster = await startCluster(t, { tcp: true })
  await cluster.createDatabase('it\'s "app"\n\u001b')
  await cluster.sql(`create role keeper superuser login password 'geheim'`)
  const { source } = cluster
  const { port } = cluster.as('keeper', 'geheim')
  const { root, put, look } = await machine(t)

  await t.test('by its socket', async (t) => {
    await mkdir(join(root, 'var/run'), { recursive: true })
    await symlink(source.host, join(root, 'var/run/postgresql'))
    const { config, findings, namesSecret } = await look()
    t.match(told(findings, 'server'), /PostgreSQL 15.*, as postgres, a superuser/)
    t.match(told(findings, 'programs'), /dumps are taken with PostgreSQL 1\d/)
    t.notOk(namesSecret)
    const { postgres, repositories } = await loadConfig({ text: config, env: {} })
    t.match(postgres, {
      host: join(root, 'var/run/postgresql'),
      port,
      user: 'postgres',
      password: null,
      databases: null,
    })
    t.equal(repositories.length, 1)
    t.notMatch(config, '\u001b')
    t.match((await look({ watchOnly: true })).config, '# repositories:', 'nobody asks it')
  })

  await t.test('with a password', async (t) => {
    const passfile = join(root, 'pgpass')
    await put('pgpass', `# geheim\nother:*:*:*:wrong\n127.0.0.1:${port}:*:keeper:geheim\n`)
    const env = { PGHOST: '127.0.0.1', PGPORT: String(port), PGUSER: 'keeper' }
    const look1 = async (options: Partial<LookOptions>, from: string) => {
      const { config, findings, namesSecret } = await look(options)
      t.match(told(findings, 'server'), `the one used was from ${from}, and is not copied`)
      t.notMatch(JSON.stringify([config, findings]), 'geheim')
      t.ok(namesSecret)
      t.match(config, 'passwordFile: /etc/lifeboat/postgres-password')
      t.match(await loadConfig({ text: config, env: { LIFEBOAT_POSTGRES_PASSWORD: 'x' } }), {
        postgres: { host: '127.0.0.1', port, user: 'keeper' },
      })
    }
    await look1({ env: { ...env, PGPASSWORD: 'geheim' } }, 'PGPASSWORD')
    await look1({ dsn: `postgresql://keeper:geheim@127.0.0.1:${port}/postgres` }, '--dsn')
    await chmod(passfile, 0o600)
    await look1({ env: { ...env, PGPASSFILE: passfile } }, passfile)
    await chmod(passfile, 0o644)
    const open = await look({ env: { ...env, PGPASSFILE: passfile } })
    t.match(told(open.findings, 'server'), /was not asked: .*password/, 'as libpq, it takes none that others can read')
  })

  await t.test('its role', async (t) => {
    await cluster.sql('create role lifeboat login')
    t.match((await look()).config, '\n  user: lifeboat\n')
  })

  await t.test('how it archives its WAL', async (t) => {
    const wal = async (options: Partial<LookOptions> = {}) => {
      const { config, findings } = await look(options)
      const [, lines = ''] = /\n(# wal:\n(?:# .*\n)+)/.exec(config) ?? []
      const { wal } = await loadConfig({ text: `${config}\n${lines.replaceAll(/^# /gm, '')}`, env: {} })
      return { text: config, archive: wal.archive, keep: wal.keepInArchiveMs, told: told(findings, 'server') }
    }
    const schedule = async () => {
      const { config } = await look()
      const [, lines = ''] = /\n(# schedule:\n(?:# .*\n)+)/.exec(config) ?? []
      const own = `wal: { archive: /wal }\n${lines.replaceAll(/^# /gm, '')}`
      return (await loadConfig({ text: `${config}\n${own}`, env: {} })).schedule
    }
    t.match(await schedule(), { full: '0 3 * * *', incremental: null }, 'physical backups are proposed with it')
    const off = await wal()
    t.match(off, { text: /archive_mode is off/, archive: '/var/lib/postgresql/wal_archive', keep: 172_800_000 })
    t.notMatch(off.told, 'archives')
    const archiving = await startCluster(t, { settings: { archive_mode: 'on' } })
    const { host, port } = archiving.source
    const set = async (command: string) => {
      await archiving.sql(`alter system set archive_command = '${command.replaceAll("'", "''")}'`)
      await archiving.sql('select pg_reload_conf()')
      return untilAnswer('the server has read it', async () => {
        const found = await wal({ dsn: `host=${host} port=${port} user=postgres` })
        const [row] = await archiving.sql<{ now: string }>(`select current_setting('archive_command') as now`)
        return row?.now === command && found
      })
    }
    t.match(await set('cp %p /mnt/%f'), {
      text: /archive_mode is on.*not of Lifeboat/,
      told: /a command that is not of lifeboat/,
    })
    const archive = "/wal of 'app', 100%: #1"
    t.match(await set(archiveCommand('/usr/lib/it is', archive)), { archive, told: archive })
  })

  await t.test('one that is not there', async (t) => {
    const { findings } = await look({ dsn: `host=127.0.0.1 port=${nobodyListens}` })
    t.match(told(findings, 'server'), /127\.0\.0\.1:1 was not asked: /)
    await t.rejects(look({ dsn: 'geheim' }), { code: 'usage-invalid', message: /^(?!.*geheim)/ })
    await t.rejects(look({ env: { PGPORT: 'x' } }), { code: 'usage-invalid' })
  })
})
