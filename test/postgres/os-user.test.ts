import { writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import t from 'tap'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { runProgram } from '../../src/postgres/programs.ts'
import { openDirectory } from '../support/scratch.ts'

t.test('who a server runs as', async (t) => {
  if (userInfo().uid !== 0) return t.equal(await serverOsUser('postgres'), null, 'ourselves')
  const [, uid, gid] =
    /^nobody:[^:]*:(\d+):(\d+):/m.exec((await runProgram({ program: 'getent', args: ['passwd', 'nobody'] })).stdout) ??
    []
  t.same(await serverOsUser('nobody'), { name: 'nobody', uid: Number(uid), gid: Number(gid) })
  for (const name of ['', 'nobody here', '--help', '-u', 'nobody\nroot', '$(id)'])
    await t.rejects(serverOsUser(name), { code: 'program-missing', hint: /verification\.osUser/ }, name)

  // Names from a directory service may hold anything. What `id` prints for them, as GNU and busybox have it:
  const directory = await openDirectory(t)
  const { PATH = '' } = process.env
  process.env.PATH = `${directory}:${PATH}`
  t.teardown(() => {
    process.env.PATH = PATH
  })
  const speaks = async (all: string, numbers: readonly [string, string]) => {
    const script = `case $1 in -u) echo '${numbers[0]}';; -g) echo '${numbers[1]}';; *) echo '${all}';; esac`
    await writeFile(join(directory, 'id'), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  }
  await speaks('uid=4715(x gid=0) gid=4712(users gid=0) groups=4712(users gid=0)', ['4715', '4712'])
  t.same(await serverOsUser('x gid=0'), { name: 'x gid=0', uid: 4715, gid: 4712 })
  await speaks('', ['', '0'])
  await t.rejects(serverOsUser('nobody'), { code: 'program-missing' }, 'nothing is not root')
})
