import { execFile } from 'node:child_process'
import { chmod, chown, rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import { accessProblem, readSecretFile } from '../../src/config/secrets.ts'
import { badKeys, loadOrRefuse, minimal, refusal } from './support.ts'

const isRoot = process.getuid?.() === 0
const env = { LIFEBOAT_CLUSTER: 'main', LIFEBOAT_REPOSITORIES: '[{ name: a, url: "file:///srv/a" }]' }

const withFile = (path: string) => `${minimal}postgres: { passwordFile: ${JSON.stringify(path)} }`

async function secretFile(path: string, contents: string | Uint8Array, mode = 0o600): Promise<string> {
  await writeFile(path, contents)
  await chmod(path, mode)
  return path
}

await t.test('the password is read anew each time', async (t) => {
  const dir = t.testdir({})
  const path = await secretFile(join(dir, 'password'), 'first\n')
  const { postgres } = await loadConfig({ text: withFile(path), env: {} })
  t.equal(await postgres.password?.(), 'first')
  await rename(await secretFile(join(dir, 'next'), ' second \r\n'), path)
  t.equal(await postgres.password?.(), ' second ', 'one newline goes, spaces stay')
  await writeFile(path, 'one\ntwo\n')
  await t.rejects(async () => postgres.password?.(), { code: 'config-invalid', message: /more than one line/ })
  await rename(path, join(dir, 'gone'))
  await t.rejects(async () => postgres.password?.(), { code: 'config-invalid', message: /no such file/ })
})

await t.test('a link leads to its file, as mounted secrets have it', async (t) => {
  const dir = t.testdir({})
  await secretFile(join(dir, 'data'), 'p\u00e4ss')
  await symlink('data', join(dir, 'link'))
  const config = await loadConfig({ env: { ...env, LIFEBOAT_POSTGRES_PASSWORD_FILE: join(dir, 'link') } })
  t.equal(await config.postgres.password?.(), 'päss')
})

await t.test('files that hold no password are a problem, and are never quoted', async (t) => {
  const dir = t.testdir({ folder: {} })
  await promisify(execFile)('mkfifo', ['-m', '600', join(dir, 'pipe')])
  const bad: [string, RegExp][] = [
    [join(dir, 'missing'), /no such file/],
    [join(dir, 'folder'), /not a regular file/],
    [join(dir, 'pipe'), /not a regular file/],
    ['/dev/null', /not a regular file/],
    [await secretFile(join(dir, 'empty'), ''), /is empty/],
    [await secretFile(join(dir, 'newline'), '\n'), /is empty/],
    [await secretFile(join(dir, 'lines'), 'hunter2\nhunter2\n'), /more than one line/],
    [await secretFile(join(dir, 'nul'), 'hunter2\0'), /NUL/],
    [await secretFile(join(dir, 'latin1'), Buffer.from('hunter2\xe9', 'latin1')), /not UTF-8/],
    [await secretFile(join(dir, 'large'), 'hunter2'.repeat(20_000)), /too large/],
    [await secretFile(join(dir, 'world'), 'hunter2', 0o604), /mode 0604/],
    [await secretFile(join(dir, 'all'), 'hunter2', 0o777), /mode 0777/],
    [await secretFile(join(dir, 'groupwrite'), 'hunter2', 0o660), /mode 0660/],
  ]
  for (const [path, message] of bad) {
    const { error, problems } = await refusal({ text: withFile(path), env: {} })
    t.match(problems, [{ key: 'postgres.passwordFile', message }], path)
    t.notMatch(error.message + JSON.stringify(error), 'hunter2')
    await t.rejects(readSecretFile(path), { code: 'config-invalid', message })
  }
})

await t.test('who may get at a file', async (t) => {
  for (const mode of [0o600, 0o400, 0o700]) t.equal(accessProblem({ uid: 1000, mode }), undefined)
  for (const mode of [0o640, 0o604, 0o601, 0o610, 0o644]) t.match(accessProblem({ uid: 1000, mode }), /^has mode 06/)
  for (const mode of [0o100640, 0o440, 0o600]) t.equal(accessProblem({ uid: 0, mode }), undefined)
  for (const mode of [0o644, 0o620, 0o650, 0o444]) t.match(accessProblem({ uid: 0, mode }), /^has mode 0/)
})

await t.test('a group may read what root owns', { skip: !isRoot && 'needs root' }, async (t) => {
  const path = await secretFile(join(t.testdir({}), 'password'), 'x', 0o640)
  t.equal(await readSecretFile(path), 'x')
  await chown(path, 65_534, 65_534)
  await t.rejects(readSecretFile(path), { message: /mode 0640/, hint: /0600/ })
})

await t.test('a file with a password in it is guarded like one', async (t) => {
  const dir = t.testdir({})
  const text = `${minimal}postgres: { password: hunter2 }`
  const path = await secretFile(join(dir, 'lifeboat.yaml'), text, 0o600)
  t.equal(await (await loadConfig({ path, env: {} })).postgres.password?.(), 'hunter2')
  await chmod(path, 0o644)
  const { problems, error } = await refusal({ path, env: {} })
  t.match(problems, [{ key: 'postgres.password', message: /mode 0644/, where: `${path}:3` }])
  t.notMatch(error.message, 'hunter2')
  await secretFile(path, minimal, 0o644)
  t.match(await loadOrRefuse({ path, env: {} }), { config: { cluster: 'main' } }, 'others may read one without')
})

await t.test('password and passwordFile', async (t) => {
  const path = await secretFile(join(t.testdir({}), 'password'), 'from file')
  const both = `${minimal}postgres: { password: hunter2, passwordFile: ${path} }`
  t.same(await badKeys(both), ['postgres.password'])
  const variables = { LIFEBOAT_POSTGRES_PASSWORD: 'from variable', LIFEBOAT_POSTGRES_PASSWORD_FILE: path }
  t.same(await badKeys(minimal, variables), ['postgres.password'])
  const over = await loadConfig({ text: withFile(path), env: { LIFEBOAT_POSTGRES_PASSWORD: 'from variable' } })
  t.equal(await over.postgres.password?.(), 'from variable', 'the environment decides for both keys')
  const inline = `${minimal}postgres: { password: hunter2 }`
  const back = await loadConfig({ text: inline, env: { LIFEBOAT_POSTGRES_PASSWORD_FILE: path } })
  t.equal(await back.postgres.password?.(), 'from file')
  t.same(await badKeys(`${minimal}postgres: { password: 123456 }`), ['postgres.password'], 'a number needs quotes')
  t.same(await badKeys(`${minimal}postgres: { password: "a\\nb" }`), ['postgres.password'])
})
