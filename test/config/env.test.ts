import fc from 'fast-check'
import t from 'tap'
import { keysBelow, rootNode, type SchemaNode, variableOf } from '../../src/config/keys.ts'
import { loadConfig } from '../../src/config/load.ts'
import { badKeys, loadOrRefuse, minimal, refusal } from './support.ts'

const required = { LIFEBOAT_CLUSTER: 'main', LIFEBOAT_REPOSITORIES: '[{ "name": "a", "url": "file:///srv/a" }]' }

await t.test('variables alone make a configuration', async (t) => {
  const config = await loadConfig({
    env: {
      ...required,
      PATH: '/bin',
      LIFEBOAT_LISTEN: ':9000',
      LIFEBOAT_STATE_DIR: '/srv/state',
      LIFEBOAT_POSTGRES_PORT: '5433',
      LIFEBOAT_POSTGRES_DATABASES: 'a, b',
      LIFEBOAT_POSTGRES_PASSWORD: 'hunter2',
      LIFEBOAT_POSTGRES_SSL_MODE: 'require',
      LIFEBOAT_DUMP_FINGERPRINT_ENABLED: 'false',
      LIFEBOAT_DUMP_FINGERPRINT_MAX_TABLE_SIZE: '1GiB',
      LIFEBOAT_VERIFICATION_OS_USER: 'nobody',
      LIFEBOAT_VERIFICATION_ASSERTIONS: '- { database: a, sql: "select true", expect: true }',
      LIFEBOAT_SCHEDULE_VERIFY: 'off',
      LIFEBOAT_POLICY_DUMP_MAX_AGE: '2d',
      LIFEBOAT_OBSERVE_INTERVAL: '',
      LIFEBOAT_AUTH_TOKENS: `[{ name: ops, role: admin, sha256: "${'ab'.repeat(32)}" }]`,
    },
  })
  t.match(config, {
    listen: { host: '0.0.0.0', port: 9000 },
    stateDir: '/srv/state',
    postgres: { port: 5433, databases: ['a', 'b'], sslMode: 'require' },
    repositories: [{ name: 'a', path: '/srv/a' }],
    dump: { fingerprint: { enabled: false, maxTableBytes: 2 ** 30 } },
    verification: { osUser: 'nobody', assertions: [{ database: 'a', expect: true }] },
    schedule: { dump: '0 2 * * *', verify: null },
    policy: { dumpMaxAgeSeconds: 172_800 },
    observe: { intervalSeconds: 60 },
    auth: { tokens: [{ name: 'ops', role: 'admin', sha256: 'ab'.repeat(32) }] },
  })
  t.equal(await config.postgres.password?.(), 'hunter2')
})

await t.test('a variable wins over the file, whatever stood there', async (t) => {
  const text = `${minimal}postgres: { port: nonsense, host: a }\nschedule:\n`
  const env = { LIFEBOAT_POSTGRES_PORT: '1', LIFEBOAT_SCHEDULE_DUMP: '0 3 * * *' }
  const config = await loadConfig({ text, env })
  t.match(config, { postgres: { port: 1, host: 'a' }, schedule: { dump: '0 3 * * *' } })
  const names = await loadConfig({ text: minimal, env: { LIFEBOAT_POSTGRES_DATABASES: '["a,b", " c"]' } })
  t.same(names.postgres.databases, ['a,b', ' c'])
  t.same(await badKeys(`${minimal}postgres: 5\n`, env), ['postgres'], 'a section that is none stays a problem')
})

await t.test('every key has a variable of its own, and every variable reaches its key', async (t) => {
  const keys = keysBelow()
  t.equal(new Set(keys.map(({ variable }) => variable)).size, keys.length)
  t.equal(variableOf(['dump', 'fingerprint', 'maxTableSize']), 'LIFEBOAT_DUMP_FINGERPRINT_MAX_TABLE_SIZE')
  for (const { path, variable, node } of keys) {
    // A colon, a comma and a NUL: no kind of value but plain text takes it.
    const { problems } = await refusal({ text: 'cluster: 1', env: { [variable]: '[:,\u0000' } })
    const key = path.join('.')
    const problem = problems.find((found) => found.key === key || found.key === `${key}[0]`)
    t.equal(problem?.where, variable, `${variable} ${node.kind ?? 'list'}`)
  }
})

await t.test('every key is described, and has a default or a word on what happens without', async (t) => {
  const visit = (node: SchemaNode, path: string): void => {
    if (path !== '') t.ok(node.description, path)
    for (const [name, child] of Object.entries(node.properties ?? {})) {
      const open = child.default === undefined && !child.properties && !node.required?.includes(name)
      if (open) t.ok(child.absent && child.example !== undefined, `${path}.${name} says what its absence means`)
      visit(child, `${path}.${name}`)
    }
    if (node.items) visit(node.items, '')
  }
  visit(rootNode, '')
})

await t.test('variables that name no key', async (t) => {
  const { problems } = await refusal({
    text: minimal,
    env: {
      LIFEBOAT_POSTGRS_HOST: 'x',
      LIFEBOAT_POSTGRES_HOSTNAME_OF_IT: '',
      LIFEBOAT_: 'x',
      lifeboat_listen: 'not ours',
      XLIFEBOAT_LISTEN: 'not ours',
    },
  })
  const found = new Map(problems.map((problem) => [problem.key, problem]))
  t.equal(found.size, 3)
  t.equal(found.get('LIFEBOAT_POSTGRS_HOST')?.hint, 'Did you mean LIFEBOAT_POSTGRES_HOST?')
})

await t.test('what Kubernetes says about services is ignored', async (t) => {
  const env = {
    LIFEBOAT_SERVICE_HOST: '10.0.0.1',
    LIFEBOAT_SERVICE_PORT: '10187',
    LIFEBOAT_SERVICE_PORT_METRICS: '10187',
    LIFEBOAT_PORT: 'tcp://10.0.0.1:10187',
    LIFEBOAT_PORT_10187_TCP: 'tcp://10.0.0.1:10187',
    LIFEBOAT_PORT_10187_TCP_ADDR: '10.0.0.1',
    LIFEBOAT_METRICS_SERVICE_HOST: '10.0.0.1',
    LIFEBOAT_METRICS_PORT: 'tcp://10.0.0.1:10187',
  }
  t.equal((await loadConfig({ text: minimal, env })).cluster, 'main')
  t.same(await badKeys(minimal, { LIFEBOAT_PORT: '10187' }), ['LIFEBOAT_PORT'], 'that one was meant for us')
})

await t.test('lists that cannot be read', async (t) => {
  for (const text of [
    '[',
    '{ name: a }',
    'a',
    '12',
    '[[]]',
    '[{}]',
    '*x',
    '[{ name: a, url: "file:///x", more: 1 }]',
  ]) {
    const { problems } = await refusal({ env: { ...required, LIFEBOAT_REPOSITORIES: text } })
    t.ok(problems.length > 0 && problems.every(({ key }) => key.startsWith('repositories')), text)
    t.ok(problems.every(({ where }) => where === 'LIFEBOAT_REPOSITORIES'))
  }
  t.same(await badKeys(minimal, { LIFEBOAT_POSTGRES_DATABASES: 'a,,b' }), ['postgres.databases[1]'])
})

/** The secret, in every place and form in which a person might put it by mistake. */
await t.test('a secret is never repeated, wherever it was put', async (t) => {
  const secret = 'hunter2Hunter2'
  const spoken = keysBelow().filter(({ node }) => !['duration', 'size', 'schedule', 'listen'].includes(node.kind ?? ''))
  for (const { path, variable } of spoken) {
    for (const value of [
      secret,
      `x\n${secret}`,
      `[${secret}`,
      `[{ name: "${secret}/", sha256: ${secret} }]`,
      `*${secret}`,
    ]) {
      const result = await loadOrRefuse({ text: minimal, env: { [variable]: value } })
      if ('config' in result) continue
      t.notMatch(result.error.message + JSON.stringify(result.error), secret, `${variable}=${value.slice(0, 8)}`)
    }
    const nested = [...path].reverse().reduce<unknown>((inner, name) => ({ [name]: inner }), { a: [secret] })
    const result = await loadOrRefuse({ text: JSON.stringify(nested), env: {} })
    if ('error' in result) t.notMatch(result.error.message, secret, path.join('.'))
  }
  const broken = [`password: ${secret}: x`, `password: *${secret}`, `password: !${secret} x`, `password: "\\${secret}"`]
  for (const line of [
    ...broken,
    `password: "${secret}`,
    `password: [${secret}`,
    `password: '${secret}' x`,
    `a: &${secret} 1`,
  ]) {
    const { error } = await refusal({ text: `${minimal}postgres:\n  ${line}\n`, env: {} })
    t.notMatch(error.message + JSON.stringify(error), secret, line)
  }
})

await t.test('whatever is written, it is a config or a list of problems', async () => {
  const leaf = fc.oneof(
    fc.anything({ maxDepth: 2, withNullPrototype: false }),
    fc.constantFrom('30d', '1h', '64MiB', '0 2 * * *', 'off', 'file:///srv/x', '/srv/x', 'admin', null, 1, 0, -1, true),
  )
  const names = [...new Set(keysBelow().flatMap(({ path }) => path)), 'name', 'url', 'sha256', '__proto__', 'sql', 'x']
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof({ maxDepth: 4 }, leaf, fc.dictionary(fc.constantFrom(...names), tie('tree'), { maxKeys: 12 })),
  }))
  await fc.assert(
    fc.asyncProperty(
      fc.dictionary(fc.constantFrom(...names), tree, { maxKeys: 12 }),
      fc.string(),
      async (made, junk) => {
        const written = JSON.stringify({
          cluster: 'main',
          repositories: [{ name: 'a', url: 'file:///srv/a' }],
          ...made,
        })
        await loadOrRefuse({ text: written, env: {} })
        await loadOrRefuse({ text: `${minimal}${junk}`, env: { LIFEBOAT_AUTH_TOKENS: junk, LIFEBOAT_DUMP_JOBS: junk } })
      },
    ),
    { numRuns: 80 },
  )
})
