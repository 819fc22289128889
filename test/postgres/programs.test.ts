import { open, readdir, readFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { LineReader, Tail } from '../../src/postgres/lines.ts'
import { serverOsUser } from '../../src/postgres/os-user.ts'
import { type ProgramOptions, runProgram, startProgram } from '../../src/postgres/programs.ts'

const sh = (script: string, more: Partial<ProgramOptions> = {}): ProgramOptions => ({
  program: '/bin/sh',
  args: ['-c', script],
  ...more,
})

/** Waits until a process is gone; fails the test (by its timeout) if it stays. */
async function gone(pid: number): Promise<void> {
  for (;;) {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
    if (stat === '' || / Z /.test(stat)) return
    await delay(10)
  }
}

/** Lines of a program that is running, as they come. */
async function firstLine(stdout: Readable): Promise<string> {
  let text = ''
  for await (const chunk of stdout.iterator({ destroyOnReturn: false })) {
    text += String(chunk)
    if (text.includes('\n')) break
  }
  return text.slice(0, text.indexOf('\n'))
}

async function openDescriptors(): Promise<number> {
  return (await readdir('/proc/self/fd')).length
}

t.test('how a program ended', async (t) => {
  t.same(await runProgram(sh('printf %s "ä"; echo oops >&2')), { stdout: 'ä', stderr: 'oops' })
  await t.rejects(runProgram(sh('echo "x: error: no luck" >&2; echo bye >&2; exit 3')), {
    code: 'program-failed',
    message: 'sh exited with status 3: x: error: no luck',
    details: { exitCode: 3, signal: null },
  })
  await t.rejects(runProgram(sh('exit 1')), { code: 'program-failed', message: 'sh exited with status 1' })
  await t.rejects(runProgram(sh('kill -9 $$')), {
    code: 'program-failed',
    message: 'sh was ended by SIGKILL',
    details: { exitCode: null, signal: 'SIGKILL' },
  })
})

t.test('what cannot be started', async (t) => {
  await t.rejects(runProgram({ program: '/nowhere/pg_dump', args: [] }), {
    code: 'program-missing',
    message: 'program not found: /nowhere/pg_dump',
    hint: 'install the package that carries pg_dump',
  })
  await t.rejects(runProgram({ program: 'lifeboat-has-no-such-program', args: [] }), { code: 'program-missing' })
  const folder = t.testdir({ script: 'echo 1', empty: '' })
  await t.rejects(runProgram({ program: join(folder, 'script'), args: [] }), { code: 'program-failed' })
  await t.rejects(runProgram({ program: folder, args: [] }), { code: 'program-failed' })
  await t.rejects(
    runProgram({ program: '/bin/true', args: [], cwd: join(folder, 'gone') }),
    { code: 'program-failed', message: /gone/ },
    'a missing directory is not a missing program',
  )
  await t.rejects(
    runProgram({ program: '/bin/true', args: ['x'.repeat(4 << 20)] }),
    { code: 'program-failed' },
    'E2BIG',
  )
  await t.rejects(runProgram({ program: '/bin/true', args: ['a\0b'] }), { code: 'program-failed' })
})

t.test('environment, directory and user', async (t) => {
  const saved = { ...process.env }
  t.teardown(() => {
    process.env = saved
  })
  Object.assign(process.env, {
    PGOPTIONS: '-c work_mem=1MB',
    PGSERVICE: 'x',
    PGPASSWORD: 'secret',
    PGHOST: 'h',
    LD_PRELOAD: '',
    LC_MESSAGES: 'de_DE',
    TZ: 'Asia/Tokyo',
    LANGUAGE: 'de',
  })
  const { stdout } = await runProgram({ program: 'env', args: [], env: { PGAPPNAME: 'lifeboat', X: 'a=b\nc' } })
  t.notMatch(stdout, /PGOPTIONS|PGSERVICE|PGPASSWORD|PGHOST|LC_MESSAGES|LANGUAGE/)
  t.match(stdout, /^LC_ALL=C\.UTF-8$/m)
  t.match(stdout, /^TZ=UTC$/m)
  t.match(stdout, /^PGAPPNAME=lifeboat$/m)
  t.match(stdout, /X=a=b\nc/)
  t.equal((await runProgram(sh('pwd'))).stdout, '/\n')
  t.equal((await runProgram(sh('pwd', { cwd: '/usr' }))).stdout, '/usr\n')
  const user = await serverOsUser('postgres')
  if (user !== null) t.equal((await runProgram(sh('id -u; id -g', { user }))).stdout, `${user.uid}\n${user.gid}\n`)
  else await t.rejects(runProgram({ program: '/bin/true', args: [], user: { name: 'root', uid: 0, gid: 0 } }))
  if (userInfo().uid === 0) await t.rejects(serverOsUser('no-such user; -rf'), { code: 'program-missing' })
})

t.test('much output', async (t) => {
  const stderrLines: string[] = []
  const noisy = await runProgram(
    sh('yes 0123456789abcdef0123456789abcdef | head -c 20000000 >&2; echo >&2; echo last >&2', {
      onStderrLine: (line) => {
        if (stderrLines.length < 2 || line === 'last') stderrLines.push(line)
      },
    }),
  )
  t.ok(noisy.stderr.length <= 64 * 1024 && noisy.stderr.length > 60_000)
  t.ok(noisy.stderr.endsWith('\nlast'))
  t.equal(stderrLines.at(-1), 'last')
  const oneLine = await runProgram(sh('head -c 20000000 /dev/zero | tr "\\0" x >&2; echo >&2; echo end >&2'))
  t.same(
    oneLine.stderr.split('\n').map(({ length }) => length),
    [16 * 1024, 3],
  )
  let count = 0
  const lined = await runProgram(
    sh('seq 1 200000', {
      onStdoutLine: (line) => {
        if (Number(line) > 0) count += 1
      },
    }),
  )
  t.equal(count, 200_000)
  t.equal(lined.stdout, '', 'not collected as well')
  t.equal((await runProgram(sh('head -c 30000000 /dev/zero'))).stdout.length, 30_000_000)
  await t.rejects(runProgram(sh('head -c 40000000 /dev/zero')), {
    code: 'program-failed',
    message: /more than 33554432/,
  })
})

t.test('lines', async (t) => {
  const read = (chunks: readonly (string | Buffer)[], max?: number) => {
    const lines: string[] = []
    const reader = new LineReader((line) => lines.push(line), max)
    for (const chunk of chunks) reader.push(Buffer.from(chunk))
    reader.end()
    return lines
  }
  t.same(read([]), [])
  t.same(read(['a', 'b\n', '\nc']), ['ab', '', 'c'])
  const bytes = Buffer.from('ä€😀\n')
  t.same(read([...bytes].map((byte) => Buffer.from([byte]))), ['ä€😀'], 'characters are not cut in two')
  t.same(read(['abcdefgh', 'ijk\nxy\n'], 4), ['abcd', 'xy'])
  t.same(read(['abcdefgh'], 4), ['abcd'])
  const tail = new Tail(10)
  for (const line of ['aaaa', 'bbbb', 'cccc']) tail.push(line)
  t.equal(tail.text(), 'bbbb\ncccc')
})

t.test('standard input', async (t) => {
  t.equal((await runProgram({ program: 'cat', args: [] })).stdout, '', 'closed when left out')
  t.equal((await runProgram({ program: 'cat', args: [], stdin: 'a\n' })).stdout, 'a\n')
  const file = await open(import.meta.filename)
  const { stdout } = await runProgram({ program: 'cat', args: [], stdin: file.fd })
  t.ok(stdout.includes('stdin: file.fd'), 'a file that is open')
  await file.close()
  const bytes = Buffer.alloc(5_000_000, 'ab')
  t.ok(
    Buffer.from((await runProgram({ program: 'cat', args: [], stdin: Readable.from([bytes]) })).stdout).equals(bytes),
  )

  await t.test('that the program does not want', async (t) => {
    t.equal((await runProgram(sh('exec <&-; echo done', { stdin: Readable.from([bytes, bytes]) }))).stdout, 'done\n')
    await t.rejects(runProgram(sh('exit 4', { stdin: Readable.from([bytes, bytes]) })), {
      code: 'program-failed',
      details: { exitCode: 4 },
    })
    t.equal((await runProgram(sh('exit 0', { stdin: bytes }))).stdout, '')
  })

  await t.test('that fails is never taken for the whole', async (t) => {
    const failing = async function* () {
      yield 'insert 1;\n'
      await delay(20)
      throw new Error('the disk is gone')
    }
    await t.rejects(runProgram({ program: 'cat', args: [], stdin: Readable.from(failing()) }), {
      message: 'the disk is gone',
    })
    const failed = Readable.from(['x'])
    failed.destroy(new Error('before'))
    failed.once('error', () => {})
    await t.rejects(runProgram({ program: 'cat', args: [], stdin: failed }), { message: 'before' })
    const closed = new Readable({ read() {} })
    setImmediate(() => {
      closed.push('half')
      setImmediate(() => closed.destroy())
    })
    await t.rejects(runProgram({ program: 'cat', args: [], stdin: closed }), { message: /closed before its end/ })
    const stubborn = new Readable({ read() {} })
    setTimeout(() => stubborn.destroy(new Error('late')), 100)
    const running = await startProgram(sh('trap "" TERM; while :; do read x; done', { stdin: stubborn, graceMs: 100 }))
    running.stdout.resume()
    const exit = await running.exited
    t.match(exit, { signal: 'SIGKILL', inputError: { message: 'late' } }, 'also by force')
  })
})

t.test('back-pressure: unread output holds the program up', async (t) => {
  const running = await startProgram(sh('head -c 8000000 /dev/zero; echo finished >&2'))
  let exited = false
  void running.exited.then(() => {
    exited = true
  })
  await delay(700)
  t.notOk(exited)
  t.ok(running.stdout.readableLength <= 256 * 1024)
  t.equal((await buffer(running.stdout)).length, 8_000_000)
  t.match(await running.exited, { code: 0, stderr: 'finished' })
})

t.test('a busy event loop loses no output', async (t) => {
  const running = await startProgram(sh('head -c 150000 /dev/zero'))
  let size = 0
  running.stdout.on('data', (chunk: Buffer) => {
    size += chunk.length
    const until = performance.now() + 700 // longer than the grace for pipes
    while (performance.now() < until);
  })
  await running.exited
  t.equal(size, 150_000)
})

t.test('abort', async (t) => {
  const abort = async (t: Test, options: ProgramOptions, after = 0) => {
    const controller = new AbortController()
    const running = await startProgram({ ...options, signal: controller.signal })
    const line = await firstLine(running.stdout)
    running.stdout.resume()
    await delay(after)
    controller.abort(new Error('enough'))
    return { exit: await running.exited, pids: line.split(' ').filter(Boolean).map(Number), t }
  }

  await t.test('TERM first', async (t) => {
    const { exit } = await abort(t, sh('trap "echo bye >&2; exit 7" TERM; echo $$; while :; do sleep 0.05; done'))
    t.match(exit, { code: 7, stderr: 'bye' })
  })

  await t.test('then KILL, of the whole group', async (t) => {
    const script =
      'trap "" TERM; sh -c "trap \\"\\" TERM; while :; do sleep 1; done" & echo $$ $!; while :; do sleep 1; done'
    const { exit, pids } = await abort(t, sh(script, { graceMs: 100 }))
    t.equal(exit.signal, 'SIGKILL')
    t.equal(pids.length, 2)
    for (const pid of pids) await gone(pid)
  })

  await t.test('a child that ignores TERM dies with a parent that does not', async (t) => {
    const script = 'sh -c "trap \\"\\" TERM; while :; do sleep 1; done" & echo $$ $!; wait'
    const { exit, pids } = await abort(t, sh(script, { graceMs: 60_000 }))
    t.equal(exit.signal, 'SIGTERM')
    for (const pid of pids) await gone(pid)
  })

  await t.test('a grandchild in a session of its own does not hold the end back', async (t) => {
    for (const chatter of ['', 'echo x;']) {
      const script = `setsid sh -c 'while :; do ${chatter} sleep 0.02; done' & echo $!; wait`
      const { exit, pids } = await abort(t, sh(script))
      t.equal(exit.signal, 'SIGTERM')
      for (const pid of pids) process.kill(pid, 'SIGKILL')
    }
    const quiet = await runProgram(sh('setsid sleep 20 & echo $!'))
    process.kill(Number(quiet.stdout), 'SIGKILL')
  })

  await t.test('runProgram throws the reason', async (t) => {
    const controller = new AbortController()
    const run = runProgram(sh('sleep 20', { signal: controller.signal }))
    controller.abort(new Error('enough'))
    await t.rejects(run, { message: 'enough' })
    await t.rejects(runProgram(sh('touch made', { signal: controller.signal, cwd: t.testdir() })), {
      message: 'enough',
    })
    t.same(await readdir(t.testdir()), [], 'aborted before: nothing was started')
  })

  await t.test('after the end it does nothing', async (t) => {
    const controller = new AbortController()
    await runProgram(sh('true', { signal: controller.signal }))
    controller.abort()
    t.pass()
  })
})

t.test('200 runs leave no descriptor, no zombie and no listener', async (t) => {
  await runProgram({ program: 'true', args: [] })
  const before = await openDescriptors()
  const { signal } = new AbortController()
  const warnings: unknown[] = []
  const onWarning = (warning: unknown) => warnings.push(warning)
  process.on('warning', onWarning)
  t.teardown(() => process.off('warning', onWarning))
  for (let index = 0; index < 25; index += 1) {
    await Promise.all(
      Array.from({ length: 8 }, (_, n) =>
        n === 0
          ? runProgram({ program: '/nowhere', args: [], signal }).catch(() => {})
          : runProgram({ program: 'true', args: [], signal, stdin: Readable.from(['x']) }),
      ),
    )
  }
  t.ok((await openDescriptors()) <= before + 1, `${await openDescriptors()} open, ${before} before`)
  t.same(warnings, [])
  const children = await runProgram({ program: 'ps', args: ['-o', 'stat=', '--ppid', String(process.pid)] })
  t.notMatch(children.stdout, /^Z/m)
})
