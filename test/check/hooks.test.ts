import { access, chmod, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { checkHooks } from '../../src/check/hooks.ts'
import { loadConfig } from '../../src/config/load.ts'
import { minimal } from '../config/support.ts'
import { scratchDirectory } from '../support/scratch.ts'

t.test('what hooks and notifications need is looked at, and nothing is run or sent', async (t) => {
  const directory = await scratchDirectory(t)
  const at = (name: string) => join(directory, name)
  const put = async (name: string, text: string, mode: number) => {
    await writeFile(at(name), text)
    await chmod(at(name), mode)
  }
  await put('good', `#!/bin/sh\ntouch ${at('it-ran')}\n`, 0o755)
  await put('plain', '#!/bin/sh\n', 0o644)
  await put('lost', '#! /nowhere/python3 -u\n', 0o755)
  await put('open', '#!/bin/sh\n', 0o777)
  await mkdir(at('folder'))
  await symlink(at('gone'), at('dangling'))
  await put('url', 'https://hc.example/hidden\n', 0o600)
  await put('nonsense', 'hidden\n', 0o600)
  await put('shown', 'https://hc.example/hidden\n', 0o644)
  const programs = ['good', 'plain', 'lost', 'open', 'folder', 'dangling', 'nothing']
  const text = `${minimal}${JSON.stringify({
    hooks: programs.map((name) => ({ name, command: [at(name)] })),
    notify: [
      ...['url', 'nonsense', 'shown', 'away'].map((name) => ({ name, urlFile: at(name) })),
      { name: 'clear', url: 'http://ops.example/hidden' },
      { name: 'local', url: 'http://127.0.0.1:8000/hidden' },
    ],
  })
    .slice(1, -1)
    .replace('"hooks":', 'hooks: ')
    .replace(',"notify":', '\nnotify: ')}\n`
  const findings = await checkHooks(await loadConfig({ text, env: {} }))
  const of = (name: string) => findings.find(({ what }) => what.startsWith(`${name}: `) || what.startsWith(at(name)))
  t.match(of('good'), { status: 'ok' })
  t.match(of('plain'), { status: 'error', what: /EACCES/, hint: /chmod \+x/ })
  t.match(of('lost'), { status: 'error', what: /first line names \/nowhere\/python3: ENOENT/ })
  t.match(of('open'), { status: 'warning', what: /other users can change/, hint: /chmod go-w/ })
  t.match(of('folder'), { status: 'error', what: /it is no file/ })
  t.match(of('dangling'), { status: 'error', what: /ENOENT/ })
  t.match(of('nothing'), { status: 'error', what: /ENOENT/ })
  t.match(of('url'), { status: 'ok', what: 'url: https://hc.example is told of runs' })
  t.match(of('nonsense'), { status: 'error', what: /no URL/ })
  t.match(of('shown'), { status: 'error', what: /mode 0644/ })
  t.match(of('away'), { status: 'error', what: /cannot be read/ })
  t.match(of('clear'), { status: 'warning', what: /http:\/\/ops.example is told of runs without encryption/ })
  t.match(of('local'), { status: 'ok' })
  t.notMatch(JSON.stringify(findings), 'hidden')
  t.equal(findings.length, programs.length + 6)
  await t.rejects(access(at('it-ran')), { code: 'ENOENT' })
})
