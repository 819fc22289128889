import { execFile } from 'node:child_process'
import { chmod, copyFile, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { scratchDirectory } from '../support/scratch.ts'

t.test('the command finds a Node.js that it runs on', async (t) => {
  const root = await scratchDirectory(t)
  await mkdir(join(root, 'dist'))
  await mkdir(join(root, 'bin'))
  await copyFile('src/lifeboat', join(root, 'dist/lifeboat'))
  // As npm link and docs/operations.md put it on the PATH.
  const command = join(root, 'bin/lifeboat')
  await symlink('../dist/lifeboat', command)
  const writeNode = async (path: string, version: string) => {
    const text = `#!/bin/sh\n[ "$1" = --version ] && { echo ${version}; exit; }\necho "${version} runs $*"\n`
    await writeFile(path, text)
    await chmod(path, 0o755)
  }
  const run = () =>
    promisify(execFile)(command, ['list', 'a b'], { env: { PATH: `${root}/bin:/usr/bin:/bin` } }).then(
      ({ stdout }) => stdout,
      ({ code, stderr }: { code: number; stderr: string }) => `${code}: ${stderr}`,
    )
  await writeNode(join(root, 'bin/node'), 'v20.20.2')
  t.match(await run(), /^2: lifeboat: it needs Node\.js 24 or newer, and here is v20\.20\.2\nHINT: npm ci /)
  await writeNode(join(root, 'bin/node'), 'nonsense')
  t.match(await run(), /^nonsense runs /, 'what cannot be told is tried')
  await writeNode(join(root, 'bin/node'), 'v24.0.0')
  t.equal(await run(), `v24.0.0 runs ${root}/dist/main.js list a b\n`)
  await mkdir(join(root, 'node_modules/node/bin'), { recursive: true })
  await writeNode(join(root, 'node_modules/node/bin/node'), 'v26.1.0')
  t.equal(await run(), `v26.1.0 runs ${root}/dist/main.js list a b\n`)
})
