import { join } from 'node:path'
import t from 'tap'
import { commands } from '../../src/cli/commands.ts'
import { formatBytes, formatSeconds, oneLine, printable, table, withoutControls } from '../../src/cli/format.ts'
import { ProgressLine, progressText } from '../../src/cli/progress.ts'
import { loadConfig } from '../../src/config/load.ts'
import { cli } from '../support/cli.ts'
import { FakeClock } from '../support/fake-clock.ts'

t.test('how much longer it takes is told once a rate is known, for each part of a run', async (t) => {
  const clock = new FakeClock()
  const written: string[] = []
  const stream = { columns: 100, write: (text: string) => written.push(text) > 0 }
  const line = new ProgressLine(stream, { shown: true, clock })
  const show = (done: number, total = 1000, unit: 'bytes' | 'steps' = 'bytes') => {
    line.show({ progress: { done, total, unit, message: 'unpacking' } })
    return written.at(-1) ?? ''
  }
  t.notMatch(show(0), 'left')
  await clock.advance(1_000)
  t.notMatch(show(900), 'left', 'a first second says nothing')
  await clock.advance(8_000)
  t.match(show(900), /90 % of 1000 B, about 1\.0 s left unpacking$/)
  t.notMatch(show(1000), 'left')
  t.notMatch(show(100, 2000), 'left', 'another part')
  await clock.advance(10_000)
  t.match(show(600, 2000), /about 28\.0 s left/)
  t.notMatch(show(1, 1, 'steps'), 'left')
})

t.test('help', async (t) => {
  for (const argv of [[], ['help'], ['--help'], ['-h']]) {
    const { code, out, err } = await cli(argv)
    t.equal(code, 0)
    t.equal(err, '')
    for (const { name } of commands) t.match(out, new RegExp(`^ {2}${name} `, 'm'))
  }
  for (const { name, options } of commands) {
    const [long, short, help] = await Promise.all([cli([name, '--help']), cli([name, '-h']), cli(['help', name])])
    t.equal(long.code, 0)
    t.same([short, help], [long, long])
    t.match(long.out, `Usage: lifeboat ${name}`)
    for (const [flag, meaning] of options) t.match(long.out, meaning === '' ? `\n\n${flag}\n` : `  ${flag}\n`)
  }
  const status = await cli(['wal', 'status', '--help'])
  t.match(
    status.out,
    /Usage: lifeboat wal status \[--json\]\n\nlifeboat wal status: .*\n {2}-c, --config FILE\n[\s\S]* {2}--json\n/,
  )
  t.notMatch(status.out, /--apply|--spool-size|wal gaps/, 'of one command alone')
  t.match((await cli(['help', 'wal', 'prefetch'])).out, /Usage: lifeboat wal prefetch .*[\s\S]*--spool-size SIZE/)
  t.same(await cli(['wal', '-h', 'nonsense']), await cli(['wal', '-h']))
  t.same(await cli(['--version']), { code: 0, out: 'lifeboat 1.2.3 (abc)\n', err: '' })
})

t.test('arguments that are wrong', async (t) => {
  const wrong: [string[], RegExp][] = [
    [['nonsense'], /there is no command "nonsense"\nHINT: one of serve/],
    [['\u001b[31mred'], /"\\u001b\[31mred"/],
    [['help', 'nonsense'], /there is no command "nonsense"/],
    [['backup', '--type', 'huge'], /there is no type of backup "huge"/],
    [['backup', '--type', 'full', '--database', 'app'], /is of the whole cluster/],
    [['backup', '--nope'], /unknown option '--nope'\nHINT: see: lifeboat help backup\n/],
    [['backup', 'extra'], /unexpected argument 'extra'/],
    [['backup', '-d', '-x'], /is ambiguous\nHINT: a value that begins with a dash is given with an equals sign/],
    [['list', '--config'], /argument missing/],
    [['list', '--json=yes'], /does not take an argument/],
    [['verify', 'x', '--database', 'y'], /exclude each other/],
    [['verify', '--at', '2026-11-26T03:10:00Z', '--latest'], /exclude each other/],
    [['verify', '--at', 'yesterday'], /is not a moment that can be used/],
    [['verify', '--latest', '--database', 'y'], /a moment and --database exclude each other/],
    [['verify', '--level', 'deep', '-c', '/nonexistent'], /cannot be read|--level cannot be/],
    [['restore'], /which backup\?/],
    [['restore', 'a', 'b'], /unexpected argument "b"/],
    [['restore', 'a', '-d', 'b'], /exclude each other\nHINT: .*--to/],
    [['restore', 'a', '--replace', '--no-compare'], /--replace needs the comparison/],
    [['expire', 'x'], /unexpected argument 'x'/],
    [['hold'], /which backup\?/],
    [['hold', '../x'], /"\.\.\/x" is not a backup id/],
    [['hold', '20260301T000000Z-dump-abcdef', '--release', '--until', '1d'], /--release goes without/],
    [['hold', '20260301T000000Z-dump-abcdef', '--until', '2020-01-01'], /"2020-01-01" has passed/],
    [['hold', '20260301T000000Z-dump-abcdef', '--until', '2099-02-31'], /"2099-02-31" is not a date/],
    [['hold', '20260301T000000Z-dump-abcdef', '--until', 'soon'], /"soon" is not a date/],
    [
      ['restore', 'external-0123456789abcdef', '--to', 'x'],
      /is a file that another tool wrote.*\nHINT: .*docs\/restore\.md/,
    ],
    [['token'], /who is the token for\?/],
    [['token', 'x', '--role', 'boss'], /--role cannot be "boss"\nHINT: one of viewer, operator, admin/],
    [['token', 'a b'], /./],
  ]
  for (const [argv, message] of wrong) {
    const { code, out, err } = await cli(argv)
    t.equal(code, 2, argv.join(' '))
    t.equal(out, '')
    t.match(err, message)
    t.match(err, /^lifeboat: /)
    t.notOk(err.includes('\u001b') || err.includes('\n    at '), 'no control characters, no stack')
  }
  const { code, out } = await cli(['backup', '--nope', '--json'])
  t.equal(code, 2)
  t.match(JSON.parse(out), { error: { code: 'usage-invalid', message: "unknown option '--nope'" } })
})

t.test('a configuration with several faults names each', async (t) => {
  const directory = t.testdir({
    'lifeboat.yaml':
      'cluster: main\nstatedir: /x\nrepositories: []\ndump: { jobs: many }\nschedule: { dump: "every day" }\n',
  })
  for (const command of ['serve', 'backup', 'list', 'verify', 'check']) {
    const { code, out, err } = await cli([command, '-c', join(directory, 'lifeboat.yaml')])
    t.equal(code, 2)
    t.equal(out, '')
    for (const key of ['statedir', 'repositories', 'dump.jobs', 'schedule.dump'])
      t.match(err, new RegExp(`^ {2}${key}`, 'm'))
    t.match(err, 'stateDir', 'it guesses what was meant')
  }
  const variable = await cli(['list'], { env: { LIFEBOAT_CONFIG: join(directory, 'lifeboat.yaml') } })
  t.equal(variable.code, 2)
  const nowhere = await cli(['list', '--config', join(directory, 'nowhere.yaml')])
  t.match(nowhere.err, /nowhere.yaml cannot be read: there is no such file\n {4}hint: .*lifeboat init/)
  const missing = await cli(['list'])
  t.match(missing.err, /^ {2}no configuration was given\n.*--config FILE.*`lifeboat init` makes one/m)
  t.notMatch(missing.err, 'is missing', 'what would be in the file is no news')
})

t.test('a token goes into the configuration as it is printed', async (t) => {
  const { code, out } = await cli(['token', 'ops', '--role', 'admin'])
  t.equal(code, 0)
  const [, yaml = ''] = out.split('\n\n')
  const text = `cluster: main\nrepositories: [{ name: local, url: "file:///var/backups/x" }]\n${yaml}`
  const config = await loadConfig({ text, env: {} })
  t.match(config.auth.tokens, [{ name: 'ops', role: 'admin' }])
  const json = JSON.parse((await cli(['token', 'ops', '--json'])).out) as Record<string, string>
  t.match(json, { name: 'ops', role: 'operator', token: /^lb_/, sha256: /^[0-9a-f]{64}$/ })
  t.not(json.token, (JSON.parse((await cli(['token', 'ops', '--json'])).out) as Record<string, string>).token)
})

t.test('words for people', async (t) => {
  t.same([0, 1023, 1024, 1536, 2 ** 30, 2 ** 60].map(formatBytes), [
    '0 B',
    '1023 B',
    '1.0 KiB',
    '1.5 KiB',
    '1.0 GiB',
    '1024.0 PiB',
  ])
  t.same([0, 0.44, 59.94, 60, 3599, 3600, 7260].map(formatSeconds), [
    '0.0 s',
    '0.4 s',
    '59.9 s',
    '1 min 0 s',
    '59 min 59 s',
    '1 h 0 min',
    '2 h 1 min',
  ])
  t.same([59.99, 119.7, 7199].map(formatSeconds), ['1 min 0 s', '2 min 0 s', '2 h 0 min'])
  t.same(['app', 'ünï', '-x', 'a b', 'a\u001b[2Jb', 'a\u202eb', ''].map(printable), [
    'app',
    'ünï',
    '-x',
    '"a b"',
    '"a\\u001b[2Jb"',
    '"a\\u202eb"',
    '""',
  ])
  t.equal(withoutControls('a\u001b[31m\nb\u202e\u0085\t'), 'a?[31m\nb???')
  t.equal(oneLine('a\nb'), 'a b')
  t.equal(
    table([
      ['a', 'b'],
      ['long', 'c'],
    ]),
    'a     b\nlong  c\n',
  )
  t.equal(
    progressText({ done: 512, total: 1024, unit: 'bytes', message: 'x\ny\u001b' }),
    `${'50 % of 1.0 KiB'.padEnd(18)} x y?`,
  )
  t.equal(progressText({ done: 0, total: 0, unit: 'bytes' }).trim(), '0 B')
  t.equal(progressText({ done: 30, total: 100, unit: 'percent' }).trim(), '30 %')
})
