import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { inspect } from 'node:util'
import t from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import { workMarker } from '../../src/postgres/orphans.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { badKeys, minimal, refusal } from './support.ts'

t.test('hooks and notifications', async (t) => {
  const directory = await scratchDirectory(t)
  const [urlFile, secretFile] = [join(directory, 'url'), join(directory, 'key')]
  for (const [file, text] of [
    [urlFile, 'https://hc.example/uuid'],
    [secretFile, 'key'],
  ] as const)
    await writeFile(file, `${text}\n`, { mode: 0o600 })
  const text = `${minimal}hooks: [{ name: mount, when: before, jobs: [dump], command: [/bin/mount, /disk] }]
notify: [{ name: ping, kind: healthchecks, urlFile: ${urlFile} }, { name: ops, url: "https://ops.example/hidden", secretFile: ${secretFile} }]`
  const config = await loadConfig({ text, env: {} })
  t.strictSame(config.hooks, [
    {
      name: 'mount',
      when: 'before',
      jobs: ['dump'],
      on: 'always',
      program: '/bin/mount',
      args: ['/disk'],
      timeoutMs: 60_000,
      onFailure: 'fail',
    },
  ])
  const [ping, ops] = config.notify
  t.match(ping, { events: ['start', 'success', 'failure'], timeoutMs: 10_000, retries: 5, secret: null })
  t.equal(await ping?.url(), 'https://hc.example/uuid')
  t.equal(await ops?.secret?.(), 'key')
  await writeFile(urlFile, 'https://hc.example/other\n')
  t.equal(await ping?.url(), 'https://hc.example/other', 'read at each use')
  t.notMatch(`${JSON.stringify(config)} ${inspect(config, { depth: 9 })}`, /hidden|uuid/, 'nobody prints a URL')
})

t.test('what is wrong with them', async (t) => {
  const command = 'command: [/x]'
  t.same(await badKeys(`${minimal}hooks: [{ name: a, ${command} }, { name: a, ${command} }]`), ['hooks[1].name'])
  t.same(await badKeys(`${minimal}hooks: [{ name: a, command: [x] }]`), ['hooks[0].command'])
  t.same(await badKeys(`${minimal}hooks: [{ name: a, command: [] }]`), ['hooks[0].command'])
  t.same(await badKeys(`${minimal}hooks: [{ name: a, command: "/x y" }]`), ['hooks[0].command'])
  t.same(await badKeys(`${minimal}hooks: [{ name: a, when: before, on: success, ${command} }]`), ['hooks[0].on'])
  t.same(await badKeys(`${minimal}hooks: [{ name: a, jobs: [backup], ${command} }]`), ['hooks[0].jobs[0]'])
  t.same(await badKeys(`${minimal}notify: [{ name: a }]`), ['notify[0].url'])
  t.same(await badKeys(`${minimal}notify: [{ name: a, url: "https://x", urlFile: /x }]`), ['notify[0].url'])
  t.same(await badKeys(`${minimal}notify: [{ name: a, url: "https://x", events: [end] }]`), ['notify[0].events[0]'])
  t.same(await badKeys(`${minimal}notify: [{ name: a, url: "https://x", kind: healthchecks, secretFile: /x }]`), [
    'notify[0].secretFile',
  ])
  const secret = 'ftp://user:hidden@x'
  const { error } = await refusal({ text: `${minimal}notify: [{ name: a, url: "${secret}" }]`, env: {} })
  t.notMatch(error.message, 'hidden', 'a wrong URL is not repeated')
})

t.test('a file with a URL in it is guarded like one with a password', async (t) => {
  const file = join(await scratchDirectory(t), 'lifeboat.yaml')
  await writeFile(file, `${minimal}notify: [{ name: a, url: "https://x/hidden" }]`)
  await chmod(file, 0o644)
  const { problems } = await refusal({ path: file, env: {} })
  t.match(problems, [{ key: 'notify[0].url', message: /stands in a file that has mode 0644/ }])
  await chmod(file, 0o600)
  await t.resolves(loadConfig({ path: file, env: {} }))
})

t.test('a hook may call lifeboat: what it knows of the run is not taken for configuration', async (t) => {
  const facts = { LIFEBOAT_RUN_ID: 'x', LIFEBOAT_STATE: 'failed', LIFEBOAT_FAILURE_MESSAGE: 'no' }
  await t.resolves(loadConfig({ text: minimal, env: { ...facts, LIFEBOAT_WHEN: 'after' } }))
  await t.resolves(loadConfig({ text: minimal, env: { [workMarker]: '/x' } }), 'nor is what a server that recovers has')
  t.same(await badKeys(minimal, { LIFEBOAT_STATE: 'x' }), ['LIFEBOAT_STATE'], 'elsewhere it is a slip')
  t.same(await badKeys(minimal, { ...facts, LIFEBOAT_WHEN: 'after', LIFEBOAT_STATES: 'x' }), ['LIFEBOAT_STATES'])
})
