import { chmod, readFile, symlink } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { PassThrough } from 'node:stream'
import t, { type Test } from 'tap'
import { ensurePackages, isExecutable, onPath } from '../../src/demo/packages.ts'

const hint = 'run: sudo apt-get update && sudo apt-get install --no-install-recommends one three'

/** A system of its own: an apt-get that runs a script and notes its arguments, as do the programs that change files. */
async function fakeSystem(t: Test, aptGet: string, programs = ['apt-get', 'install', 'rm', 'sudo']) {
  const note = '#!/bin/sh\necho "$(basename "$0") $*" >>"$(dirname "$0")/log"\n'
  const scripts: Record<string, string> = {
    'apt-get': `${note}cd "$(dirname "$0")"\n${aptGet}\n`,
    install: note,
    rm: note,
    sudo: '#!/bin/sh\nshift\nexec "$@"\n',
  }
  const path = t.testdir({ log: '', ...Object.fromEntries(programs.map((name) => [name, scripts[name] ?? ''])) })
  for (const name of programs) await chmod(`${path}/${name}`, 0o755)
  for (const name of ['env', 'sh', 'true', 'basename', 'dirname', 'cat'])
    await symlink(`/usr/bin/${name}`, `${path}/${name}`)
  return {
    path,
    log: async () => (await readFile(`${path}/log`, 'utf8')).split('\n').filter((line) => line !== ''),
    packages: ['one', 'two', 'three'].map((name) => ({
      package: name,
      present: async () =>
        name === 'two' || (await readFile(`${path}/installed`, 'utf8').catch(() => '')).includes(name),
    })),
  }
}

const options = '-qq -o DPkg::Lock::Timeout=300'
const installs = `apt-get ${options} install --yes --no-install-recommends one three`
const update = `apt-get ${options} update`

t.test('what is there is not installed', async (t) => {
  const { path, log } = await fakeSystem(t, 'exit 1')
  const out = new PassThrough()
  await ensurePackages([{ package: 'one', present: async () => true }], out, path)
  t.equal(out.read(), null, 'not a word')
  t.same(await log(), [])
})

t.test('what is missing is installed, while no service may start and no cluster is made', async (t) => {
  const { path, log, packages } = await fakeSystem(t, 'echo "$*" >installed')
  const out = new PassThrough()
  await ensurePackages(packages, out, path)
  t.equal(String(out.read()), 'installing one, three with apt-get\n')
  const lines = await log()
  t.equal(lines.filter((line) => line.startsWith('apt-get')).join('\n'), installs, 'no update without need')
  const apt = lines.indexOf(installs)
  const switches = lines.slice(0, apt).map((line) => line.split(' ').at(-1) ?? '')
  t.ok(switches.includes('/etc/postgresql-common/createcluster.d/lifeboat.conf'), 'no cluster')
  t.ok(switches.includes('/usr/sbin/policy-rc.d') || (await isExecutable('/usr/sbin/policy-rc.d')), 'no service')
  t.equal(lines.slice(apt + 1).join('\n'), `rm -f -- ${switches.join(' ')}`, 'set back')
})

t.test('old lists are renewed', async (t) => {
  const script = `case "$*" in *update) : >updated ;; *) [ -e updated ] && echo "$*" >installed ;; esac`
  const { path, log, packages } = await fakeSystem(t, script)
  await ensurePackages(packages, new PassThrough(), path)
  t.same(
    (await log()).filter((line) => line.startsWith('apt-get')),
    [installs, update, installs],
  )
})

t.test('when it does not work, the command is named', async (t) => {
  await t.test('apt-get fails', async (t) => {
    const { path, log, packages } = await fakeSystem(t, 'echo "E: Unable to locate package one" >&2; exit 100')
    await t.rejects(ensurePackages(packages, new PassThrough(), path), {
      code: 'program-missing',
      message: /^not installed: one, three .*Unable to locate package one/,
      hint,
    })
    t.match((await log()).at(-1), /^rm /, 'set back all the same')
  })
  await t.test('apt-get says yes, but the program is not there', async (t) => {
    const { path, packages } = await fakeSystem(t, 'echo one >installed')
    await t.rejects(ensurePackages(packages, new PassThrough(), path), {
      code: 'program-missing',
      message: 'not installed: three',
    })
  })
  await t.test('there is no apt-get', async (t) => {
    const { path, packages } = await fakeSystem(t, '', ['install', 'rm', 'sudo'])
    await t.rejects(ensurePackages(packages, new PassThrough(), path), { code: 'program-missing', hint })
  })
  await t.test('there is no right to', { skip: userInfo().uid === 0 && 'root may' }, async (t) => {
    const { path, packages } = await fakeSystem(t, '', ['apt-get', 'install', 'rm'])
    await t.rejects(ensurePackages(packages, new PassThrough(), path), { code: 'program-missing', hint })
  })
})

t.test('programs are looked for on PATH and where Debian puts them', async (t) => {
  const directory = t.testdir({ plain: '' })
  t.equal(await onPath('sh'), true)
  t.equal(await onPath('sh', directory), false)
  t.equal(await onPath('no-such-program'), false)
  t.equal(await isExecutable('/bin/sh'), true)
  t.equal(await isExecutable(`${directory}/plain`), false)
  t.equal(await isExecutable(`${directory}/nothing`), false)
})
