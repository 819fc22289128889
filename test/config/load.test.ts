import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { inspect } from 'node:util'
import t from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import { defaultRetention } from '../support/catalog.ts'
import { badKeys, minimal, refusal } from './support.ts'

const hash = 'AB'.repeat(32)

await t.test('defaults', async (t) => {
  const config = await loadConfig({ text: minimal, env: {} })
  t.strictSame(
    { ...config },
    {
      cluster: 'main',
      listen: { host: '127.0.0.1', port: 10187 },
      stateDir: '/var/lib/lifeboat',
      workDir: '/var/lib/lifeboat/work',
      postgres: {
        host: '/var/run/postgresql',
        port: 5432,
        user: 'lifeboat',
        password: null,
        databases: null,
        binDir: null,
        maintenanceDatabase: 'postgres',
        connectTimeoutMs: 10_000,
        sslMode: 'prefer',
        sslRootCert: null,
      },
      repositories: [
        {
          name: 'local',
          url: 'file:///var/backups/lifeboat',
          path: '/var/backups/lifeboat',
          bucket: null,
          reading: { name: 'local', url: 'file:///var/backups/lifeboat', bandwidth: [] },
          bandwidth: [],
          retention: defaultRetention,
          walKeepForSeconds: 30 * 86_400,
          prices: null,
          monthlyBudget: null,
        },
      ],
      encryption: { recipients: [], recipientsFile: null, identityFile: null },
      watch: [],
      watchedBuckets: [],
      wal: {
        archive: null,
        clockSeconds: 5,
        holes: [],
        stream: null,
        slotLimitBytes: 10 * 1024 ** 3,
        keepInArchiveMs: null,
        ship: { parallel: 4, level: 1 },
      },
      dump: {
        jobs: 2,
        timeoutSeconds: 43_200,
        fingerprint: { enabled: true, maxSeconds: 1800, maxTableBytes: 16 * 2 ** 30 },
      },
      verification: {
        level: 'data',
        jobs: 2,
        timeoutSeconds: 43_200,
        targetTimeoutSeconds: null,
        reproofSeconds: 30 * 86_400,
        osUser: 'nobody',
        assertions: [],
      },
      physical: {
        checkpoint: 'fast',
        maxRateKib: null,
        compression: { level: 3, threads: 2 },
        timeoutSeconds: 12 * 3600,
        walTimeoutMs: 15 * 60_000,
        chainLimit: 28,
        standby: null,
        consolidate: false,
      },
      schedule: {
        ...{ dump: '0 2 * * *', full: null, incremental: null, verify: '0 4 * * 0', expire: '0 5 * * *' },
        ...{ alertDrill: null, catchUp: true },
      },
      runner: { queueLimit: 16, retries: 3, retryDelayMs: 20_000 },
      lease: { ttlSeconds: null },
      objectives: { rpoSeconds: 3600, rtoSeconds: 14_400 },
      policy: {
        alertPathMaxAgeSeconds: null,
        dumpMaxAgeSeconds: 30 * 3600,
        fullMaxAgeSeconds: null,
        incrementalMaxAgeSeconds: null,
        verificationMaxAgeSeconds: 7.5 * 86_400,
      },
      hooks: [],
      notify: [],
      alertDrill: {
        ...{ alertmanagers: [], prometheus: null, from: 'rule', receiver: null },
        ...{ prometheusMs: 180_000, alertmanagerMs: 60_000, receiverMs: 360_000 },
        ...{ resolvedMs: 600_000, requestMs: 10_000 },
      },
      growth: { shrinkBelow: 0.7, growAbove: 1.5 },
      observe: { intervalSeconds: 60, timeoutSeconds: 20 },
      auth: { tokens: [] },
      log: { level: 'info' },
    },
  )
})

await t.test('every key can be set', async (t) => {
  const text = `
cluster: prod-1
listen: "[::1]:0"
stateDir: /srv//state/
workDir: /srv/work
postgres:
  { host: db.example, port: 6543, user: "we\\"ird\\nname", password: hunter2, databases: ['a b', "-x\\n", 'ü,;'], binDir: /opt/pg/bin,
    maintenanceDatabase: app, connectTimeout: 500ms, sslMode: verify-full, sslRootCert: /etc/ca.pem }
repositories:
  - { name: a, url: file:///srv/a }
  - { name: b, url: file:///srv/b%20c }
dump: { jobs: 4, timeout: 1h30m, fingerprint: { enabled: false, maxDuration: 90s, maxTableSize: 512 } }
verification:
  level: artifact
  jobs: 1
  timeout: 2h
  targetTimeout: 90m
  reproofPeriod: 0s
  osUser: pgtest
  assertions:
    - { database: a b, sql: select 1, expect: 1 }
    - { name: none, database: a b, sql: select null, expect: null }
    - { database: a b, sql: "select ''", expect: '' }
schedule: { dump: "*/5 * * * *", verify: off }
objectives: { rpo: 5m, rto: 30m }
policy: { dumpMaxAge: 1h, verificationMaxAge: 40d }
observe: { interval: 10s, timeout: 1s }
auth: { tokens: [{ name: ops, role: admin, sha256: ${hash} }, { name: eye, role: viewer, sha256: ${'cd'.repeat(32)} }] }
log: { level: debug }
`
  const config = await loadConfig({ text, env: {} })
  t.match(config, {
    cluster: 'prod-1',
    listen: { host: '::1', port: 0 },
    stateDir: '/srv/state',
    workDir: '/srv/work',
    postgres: { databases: ['a b', '-x\n', 'ü,;'], connectTimeoutMs: 500, sslMode: 'verify-full' },
    repositories: [{ path: '/srv/a' }, { url: 'file:///srv/b%20c', path: '/srv/b c' }],
    dump: { jobs: 4, timeoutSeconds: 5400, fingerprint: { enabled: false, maxSeconds: 90, maxTableBytes: 512 } },
    verification: {
      level: 'artifact',
      targetTimeoutSeconds: 5400,
      reproofSeconds: 0,
      assertions: [
        { name: 'assertion 1', expect: 1 },
        { name: 'none', expect: null },
        { name: 'assertion 3', expect: '' },
      ],
    },
    schedule: { dump: '*/5 * * * *', verify: null },
    policy: { dumpMaxAgeSeconds: 3600, verificationMaxAgeSeconds: 40 * 86_400 },
    log: { level: 'debug' },
  })
  t.equal(await config.postgres.password?.(), 'hunter2')
  t.equal(config.auth.tokens[0]?.sha256, hash.toLowerCase(), 'hashes are compared in lower case')
  for (const shown of [JSON.stringify(config), inspect(config, { depth: 9 })]) {
    t.notMatch(shown, /hunter2|abab|cdcd/i, 'printing it shows no secret')
  }
  t.throws(() => Object.assign(config.postgres, { port: 1 }), TypeError, 'it cannot be changed')
  t.throws(() => Object.assign(config.auth.tokens[0] ?? {}, { sha256: '' }), TypeError)
})

await t.test('a schedule that is off has no limit', async (t) => {
  for (const off of ['off', 'null', '"off"', '']) {
    const config = await loadConfig({ text: `${minimal}schedule: { dump: ${off} }`, env: {} })
    t.equal(config.schedule.dump, null, off)
    t.equal(config.policy.dumpMaxAgeSeconds, null)
    t.equal(config.schedule.verify, '0 4 * * 0')
  }
  const set = await loadConfig({ text: `${minimal}schedule: { dump: off }\npolicy: { dumpMaxAge: 2d }`, env: {} })
  t.equal(set.policy.dumpMaxAgeSeconds, 172_800, 'backups that something else triggers can still be too old')
})

await t.test('sections that are empty mean what leaving them out means', async (t) => {
  const config = await loadConfig({ text: `${minimal}postgres:\nschedule:\nauth:\ndump:\n  fingerprint:\n`, env: {} })
  t.equal(config.postgres.port, 5432)
  t.equal(config.dump.fingerprint.enabled, true)
})

await t.test('all problems are reported at once, each with its key, line and hint', async (t) => {
  const text = `cluster: "a b"
listen: 10187
postgress: {}
state_dir: /x
host: x
postgres: { port: 70000, user: 12, connectTimeout: 30, sslMode: verify }
repositories:
  - { name: a, url: file:///a }
  - { name: a, url: file:///a/b }
dump:
  jobs: 0
  timeout: 1.5h
  fingerprint: { enabled: yes, maxTableSize: 64M }
verification: 3
schedule: { dump: "0 0 30 2 *", verify: "@weekly" }
`
  const { error, problems } = await refusal({ path: '/etc/lifeboat.yaml', text, env: { LIFEBOAT_LOG_LEVEL: 'inf' } })
  const found = new Map(problems.map((problem) => [problem.key, problem]))
  const lines = {
    cluster: 1,
    listen: 2,
    postgress: 3,
    state_dir: 4,
    host: 5,
    'postgres.port': 6,
    'postgres.user': 6,
    'postgres.connectTimeout': 6,
    'postgres.sslMode': 6,
    'repositories[1].name': 9,
    'repositories[1].url': 9,
    'dump.jobs': 11,
    'dump.timeout': 12,
    'dump.fingerprint.enabled': 13,
    'dump.fingerprint.maxTableSize': 13,
    verification: 14,
    'schedule.dump': 15,
    'schedule.verify': 15,
  }
  for (const [key, line] of Object.entries(lines)) t.equal(found.get(key)?.where, `/etc/lifeboat.yaml:${line}`, key)
  t.equal(found.get('log.level')?.where, 'LIFEBOAT_LOG_LEVEL')
  t.equal(found.size, Object.keys(lines).length + 1, 'and nothing else')
  t.equal(found.get('state_dir')?.hint, 'Did you mean stateDir?')
  t.equal(found.get('host')?.hint, 'Did you mean postgres.host?')
  t.equal(found.get('postgress')?.hint, 'Did you mean postgres?')
  t.equal(found.get('postgres.connectTimeout')?.hint, 'Add a unit, e.g. 30s or 30m.')
  t.equal(found.get('log.level')?.hint, 'Did you mean info?')
  for (const { key, message, hint } of problems) {
    t.ok(error.message.includes(key) && error.message.includes(message), `the message lists ${key}`)
    if (hint) t.ok(error.message.includes(hint))
  }
  t.match(error.message, /^19 problems in the configuration\n/)
})

await t.test('wrong values', async (t) => {
  const bad: [string, string][] = [
    ['cluster: ""', 'cluster'],
    ['cluster: ..', 'cluster'],
    ['cluster: a/b', 'cluster'],
    ['cluster: 12', 'cluster'],
    ['cluster: [a]', 'cluster'],
    [`cluster: ${'a'.repeat(64)}`, 'cluster'],
    ['cluster:', 'cluster'],
    ['listen: localhost', 'listen'],
    ['stateDir: relative/dir', 'stateDir'],
    ['stateDir: "/a\\0b"', 'stateDir'],
    ['workDir: ~', 'workDir'],
    ['repositories: []', 'repositories'],
    ['repositories: {}', 'repositories'],
    ['repositories: [x]', 'repositories[0]'],
    ['repositories: [null]', 'repositories[0]'],
    ['repositories: [{ url: "file:///x" }]', 'repositories[0].name'],
    ['repositories: [{ name: x }]', 'repositories[0].url'],
    ['repositories: [{ name: x, url: /x }]', 'repositories[0].url'],
    ['repositories: [{ name: "a{b}", url: "file:///x" }]', 'repositories[0].name'],
    ['postgres: { host: "a,b" }', 'postgres.host'],
    ['postgres: { host: "postgres://u:p@h/db" }', 'postgres.host'],
    ['postgres: { port: "5432" }', 'postgres.port'],
    ['postgres: { port: 54.32 }', 'postgres.port'],
    ['postgres: { port: .inf }', 'postgres.port'],
    ['postgres: { port: 0 }', 'postgres.port'],
    ['postgres: { port: -1 }', 'postgres.port'],
    [`postgres: { user: "${'ü'.repeat(32)}" }`, 'postgres.user'],
    ['postgres: { databases: app }', 'postgres.databases'],
    ['postgres: { databases: [] }', 'postgres.databases'],
    ['postgres: { databases: }', 'postgres.databases'],
    ['postgres: { databases: [""] }', 'postgres.databases[0]'],
    ['postgres: { databases: [a, 1] }', 'postgres.databases[1]'],
    ['postgres: { databases: [a, "b\\0"] }', 'postgres.databases[1]'],
    ['postgres: { databases: [a, b, a] }', 'postgres.databases[2]'],
    ['postgres: { databases: [template0] }', 'postgres.databases[0]'],
    ['postgres: { binDir: bin }', 'postgres.binDir'],
    ['postgres: { connectTimeout: 11m }', 'postgres.connectTimeout'],
    ['postgres: { sslRootCert: /ca.pem }', 'postgres.sslRootCert'],
    ['dump: { jobs: 65 }', 'dump.jobs'],
    ['dump: { timeout: 30d }', 'dump.timeout'],
    ['dump: { timeout: 59s }', 'dump.timeout'],
    ['dump: { fingerprint: true }', 'dump.fingerprint'],
    ['dump: { fingerprint: { maxTableSize: -1 } }', 'dump.fingerprint.maxTableSize'],
    ['verification: { level: deep }', 'verification.level'],
    ['verification: { targetTimeout: 59s }', 'verification.targetTimeout'],
    ['verification: { targetTimeout: 12h1s }', 'verification.targetTimeout'],
    ['verification: { timeout: 1h, targetTimeout: 2h }', 'verification.targetTimeout'],
    ['verification: { osUser: root }', 'verification.osUser'],
    ['verification: { osUser: -x }', 'verification.osUser'],
    ['verification: { assertions: [{ database: a, sql: select 1 }] }', 'verification.assertions[0].expect'],
    ['verification: { assertions: [{ database: a, sql: x, expect: [1] }] }', 'verification.assertions[0].expect'],
    ['schedule: { dump: false }', 'schedule.dump'],
    ['schedule: { dump: "* * * * * *" }', 'schedule.dump'],
    ['objectives: { rpo: 0s }', 'objectives.rpo'],
    ['policy: { dumpMaxAge: 24h }', 'policy.dumpMaxAge'],
    ['policy: { verificationMaxAge: 7d }', 'policy.verificationMaxAge'],
    ['observe: { interval: 2d }', 'observe.interval'],
    ['auth: { tokens: [{ name: a, role: root, sha256: x }] }', 'auth.tokens[0].role'],
    ['log: { level: INFO }', 'log.level'],
    ['constructor: x', 'constructor'],
    ['__proto__: { cluster: x }', '__proto__'],
    ['postgres: { __proto__: { port: 1 } }', 'postgres.__proto__'],
    ['"a\\nb": 1', '["a\\nb"]'],
    ['"": 1', '[""]'],
    ['<<: { stateDir: /x }', '["<<"]'],
  ]
  for (const [line, key] of bad) {
    const others = minimal.split('\n').filter((given) => given.split(':')[0] !== line.split(':')[0])
    t.ok((await badKeys(`${others.join('\n')}\n${line}\n`)).includes(key), line)
  }
})

await t.test('a key in the wrong section', async (t) => {
  const { problems } = await refusal({ text: `${minimal}verification: { maxAge: 9d }`, env: {} })
  t.equal(problems[0]?.hint, 'Did you mean policy.verificationMaxAge?')
})

await t.test('names and directories that get in each other’s way', async (t) => {
  const dir = t.testdir({ real: { inner: {} }, link: t.fixture('symlink', 'real') })
  const repositories = (...urls: string[]) =>
    `cluster: main\nrepositories:\n${urls.map((url, index) => `  - { name: r${index}, url: "file://${url}" }\n`).join('')}`
  const clash: [string, string][] = [
    [repositories('/srv/a', '/srv/a'), 'repositories[1].url'],
    [repositories('/srv/a', '/srv/./x/../a/'), 'repositories[1].url'],
    [`${repositories('/srv/a')}wal: { archive: /srv/a/wal }\n`, 'wal.archive'],
    [`${repositories('/srv/a')}wal: { archive: /var/lib/lifeboat/../lifeboat }\n`, 'wal.archive'],
    [`${repositories('/srv/a')}wal: { stream: { slot: here } }\n`, 'wal.stream'],
    [repositories('/srv/a/b', '/srv/a'), 'repositories[1].url'],
    [repositories(join(dir, 'real'), join(dir, 'link/inner')), 'repositories[1].url'],
    [repositories(join(dir, 'real/new'), join(dir, 'link/new/deeper')), 'repositories[1].url'],
    [repositories('/var/lib/lifeboat'), 'repositories[0].url'],
    [repositories('/var/lib/lifeboat/repository'), 'repositories[0].url'],
    [repositories('/var/lib'), 'repositories[0].url'],
    [`${repositories('/srv/a')}stateDir: /srv/a/state`, 'repositories[0].url'],
    [`${repositories('/srv/a')}workDir: /srv/a`, 'repositories[0].url'],
    [`${repositories('/srv/a')}workDir: /`, 'repositories[0].url'],
    [`${repositories('/srv/a')}workDir: /var/lib/lifeboat/`, 'workDir'],
    [`${repositories('/srv/a')}workDir: /var/lib`, 'workDir'],
  ]
  for (const [text, key] of clash) t.ok((await badKeys(text)).includes(key), text)
  await loadConfig({ text: `${repositories('/srv/a', '/srv/ab', '/srv/b')}workDir: /srv/a-work`, env: {} })

  const tokens = (...list: string[]) => `${minimal}auth: { tokens: [${list.join(', ')}] }`
  const token = (name: string, sha256: string) => `{ name: ${name}, role: viewer, sha256: "${sha256}" }`
  t.same(await badKeys(tokens(token('a', hash), token('a', 'cd'.repeat(32)))), ['auth.tokens[1].name'])
  t.same(await badKeys(tokens(token('a', hash), token('b', hash.toLowerCase()))), ['auth.tokens[1].sha256'])
  const nothing = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
  t.same(await badKeys(tokens(token('a', nothing))), ['auth.tokens[0].sha256'])
  const assertion = (name: string) => `{ name: ${name}, database: a, sql: x, expect: 1 }`
  t.same(await badKeys(`${minimal}verification: { assertions: [${assertion('n')}, ${assertion('n')}] }`), [
    'verification.assertions[1].name',
  ])
  t.same(await badKeys(`${minimal}postgres: { databases: [b] }\nverification: { assertions: [${assertion('n')}] }`), [
    'verification.assertions[0].database',
  ])
})

await t.test('what is no YAML, or too much of it', async (t) => {
  const bomb = `${minimal}a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefghij'
    .split('')
    .map((name, index) => `${name}: &${name} [${Array(9).fill(`*${'abcdefghi'[index]}`).join(',')}]`)
    .join('\n')}`
  const bad: [string, RegExp][] = [
    [`${minimal}cluster: again`, /^configuration:3: the same key stands twice/],
    [`${minimal}postgres:\n\tport: 1`, /^configuration:4: a tab is used/],
    [`${minimal}---\ncluster: x`, /a second document/],
    [`${minimal}stateDir: !!js/function 'x'`, /tags/],
    [`${minimal}stateDir: !!binary aGk=`, /tags/],
    [`${minimal}stateDir: *nowhere`, /aliases/],
    [`${minimal}schedule: { dump: */5 * * * * }`, /quotes/],
    [`a: &a [*a]`, /aliases/],
    [bomb, /aliases/],
    [`${minimal}stateDir: "/x`, /missing/],
    [`${minimal}? [a]\n: b`, /a key must be plain text/],
    ['['.repeat(50_000), /nested too deeply/],
    [`${'{a: '.repeat(50_000)}`, /nested too deeply/],
    [`${minimal}# ${'x'.repeat(1 << 20)}`, /larger than 1 MiB/],
    [`${minimal}a: b: c`, /valid YAML/],
  ]
  for (const [text, message] of bad) {
    const { problems } = await refusal({ text, env: {} })
    t.match(problems[0], { key: '', message }, text.slice(-40))
    t.ok(problems.length <= 5, 'a few words are enough')
  }
  for (const text of ['- a', 'text', '12', '\0']) {
    t.match((await refusal({ text, env: {} })).problems[0], { key: '', message: /must be a section/ }, text)
  }
  t.same(await badKeys(''), ['cluster', 'repositories'], 'an empty text lacks what is required')
})

await t.test('files', async (t) => {
  const dir = t.testdir({ good: minimal, folder: {}, bom: `\uFEFF${minimal}` })
  t.equal((await loadConfig({ path: join(dir, 'good'), env: {} })).cluster, 'main')
  t.equal((await loadConfig({ path: join(dir, 'bom'), env: {} })).cluster, 'main')
  t.equal((await loadConfig({ env: { LIFEBOAT_CONFIG: join(dir, 'good') } })).cluster, 'main')
  await writeFile(join(dir, 'latin1'), Buffer.from([0x61, 0x3a, 0x20, 0xe9, 0x0a]))
  await writeFile(join(dir, 'huge'), Buffer.alloc((1 << 20) + 1, 0x23))
  const bad: [string, RegExp][] = [
    [join(dir, 'missing'), /no such file/],
    [join(dir, 'good/x'), /no such file/],
    [join(dir, 'folder'), /not a regular file/],
    ['/dev/zero', /not a regular file/],
    [join(dir, 'latin1'), /not UTF-8/],
    [join(dir, 'huge'), /larger than 1 MiB/],
  ]
  for (const [path, message] of bad) {
    const { problems } = await refusal({ path, env: { LIFEBOAT_NONSENSE: '1' } })
    t.same(problems.map(({ key }) => key).sort(), ['', 'LIFEBOAT_NONSENSE'], 'what can still be said is said')
    t.match(problems.find(({ key }) => key === '')?.message, message, path)
  }
})
