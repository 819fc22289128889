import { execFile } from 'node:child_process'
import { closeSync, fstatSync, readdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { LifeboatError } from '../../src/domain/errors.ts'
import { Reader } from '../../src/storage/reader.ts'
import { FakeClock } from '../support/fake-clock.ts'

const run = promisify(execFile)
const script = new URL('./fixtures/dying-reader.ts', import.meta.url)

/** How many threads this process has (proc(5), /proc/pid/task). */
function threads(): number {
  return readdirSync('/proc/self/task').length
}

/** Files below the folder that this process has open. */
function openBelow(folder: string): string[] {
  return readdirSync('/proc/self/fd').flatMap((descriptor) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${descriptor}`)
      return path.startsWith(folder) ? [path] : []
    } catch {
      return []
    }
  })
}

function filled(t: Test): string {
  const root = t.testdir({ small: 'small', folder: {} })
  writeFileSync(join(root, 'full'), Buffer.alloc(256 * 1024, 'f'))
  writeFileSync(join(root, 'large'), Buffer.alloc(256 * 1024 + 1, 'l'))
  symlinkSync('small', join(root, 'link'))
  return root
}

await t.test('what it finds', async (t) => {
  const root = filled(t)
  const reader = new Reader(new FakeClock())
  const open = (key: string) => reader.ask({ what: 'body', key }, root, undefined)
  const [small, full, large, folder, missing] = await Promise.all(
    ['small', 'full', 'large', 'folder', 'missing'].map(open),
  )
  t.same(small?.body, Buffer.from('small'), 'the bytes of a small file')
  t.ok(full?.body instanceof Uint8Array && readFileSync(join(root, 'full')).equals(full.body))
  t.type(large?.body, 'number', 'a descriptor of a large one')
  t.equal(fstatSync(Number(large?.body)).size, 256 * 1024 + 1, 'which is open')
  t.equal(folder, null)
  t.equal(missing, null)
  for (const what of ['head', 'entry'] as const) {
    t.same(await reader.ask({ what, key: 'large' }, root, undefined), { info: large?.info }, `${what} tells the same`)
    t.equal(await reader.ask({ what, key: 'folder' }, root, undefined), null)
  }
  t.equal(await reader.ask({ what: 'entry', key: 'link' }, root, undefined), null)
  await t.rejects(open('link'), {
    name: 'LifeboatError',
    code: 'storage-failed',
    message: '"link" is or lies behind a symbolic link',
    hint: /^links below the root/,
  })
  await t.rejects(
    reader.ask({ what: 'entry', key: 'x' }, '\0', undefined),
    { code: 'ERR_INVALID_ARG_VALUE' },
    'errors keep their code',
  )
  t.same(openBelow(root), [join(root, 'large')], 'nothing else stays open')
  closeSync(Number(large?.body))
})

await t.test('an answer that nobody waits for any more is dropped', async (t) => {
  const root = filled(t)
  const reader = new Reader(new FakeClock())
  const abort = new AbortController()
  const reason = new LifeboatError('timed-out', 'too slow')
  const asked = Array.from({ length: 50 }, () => reader.ask({ what: 'body', key: 'large' }, root, abort.signal))
  // Sent, not answered: the thread is only starting.
  await new Promise(setImmediate)
  await new Promise(setImmediate)
  asked.push(reader.ask({ what: 'body', key: 'large' }, root, abort.signal))
  abort.abort(reason)
  for (const one of await Promise.allSettled(asked)) t.equal(one.status === 'rejected' && one.reason, reason)
  await t.rejects(
    reader.ask({ what: 'head', key: 'small' }, root, abort.signal),
    reason,
    'an aborted signal asks nothing',
  )
  // Answered after those.
  t.equal((await reader.ask({ what: 'head', key: 'small' }, root, undefined))?.info.bytes, 5)
  t.same(openBelow(root), [], 'their files are closed')
})

await t.test('a thread that dies fails what waits for it, and is started anew', async (t) => {
  const reader = new Reader(new FakeClock(), script)
  t.equal(await reader.ask({ what: 'head', key: 'x' }, '/', undefined), null)
  const asked = ['hang', 'die', 'after'].map((key) => reader.ask({ what: 'head', key }, '/', undefined))
  for (const one of asked) {
    await t.rejects(one, {
      code: 'storage-failed',
      message: 'the thread that reads files ended: a defect',
      cause: { message: 'a defect' },
    })
  }
  t.equal(await reader.ask({ what: 'head', key: 'x' }, '/', undefined), null)
  const none = new Reader(new FakeClock(), new URL('./fixtures/no-such-file.ts', import.meta.url))
  await t.rejects(none.ask({ what: 'head', key: 'x' }, '/', undefined), { code: 'storage-failed' })
})

await t.test('a thread that hangs is not given more than it can owe, nor replaced', async (t) => {
  const clock = new FakeClock()
  const reader = new Reader(clock, script)
  await reader.ask({ what: 'head', key: 'x' }, '/', undefined)
  const running = threads()
  const abort = new AbortController()
  const hanging = Array.from({ length: 1_024 }, () => reader.ask({ what: 'head', key: 'hang' }, '/', abort.signal))
  await new Promise(setImmediate)
  await new Promise(setImmediate)
  const late = reader.ask({ what: 'head', key: 'x' }, '/', abort.signal)
  const ended = Promise.allSettled([...hanging, late])
  abort.abort()
  t.ok(
    (await ended).every(({ status }) => status === 'rejected'),
    'the signal ends the wait',
  )
  await clock.advance(60_000)
  t.equal(threads(), running, 'it is still there')
})

await t.test('an idle thread ends', async (t) => {
  const clock = new FakeClock()
  const reader = new Reader(clock, script)
  const before = threads()
  await reader.ask({ what: 'head', key: 'x' }, '/', undefined)
  t.equal(threads(), before + 1)
  await clock.advance(4_999)
  await reader.ask({ what: 'head', key: 'x' }, '/', undefined)
  await clock.advance(5_000)
  t.equal(threads(), before + 1, 'it was used in these five seconds')
  await clock.advance(10_000)
  while (threads() > before) await new Promise(setImmediate)
  t.equal(await reader.ask({ what: 'head', key: 'x' }, '/', undefined), null, 'and is started again')
})

await t.test('a process waits for an answer, not for the thread', async (t) => {
  const reader = new URL('../../src/storage/reader.ts', import.meta.url)
  const clock = new URL('../../src/clock.ts', import.meta.url)
  const program = `import { Reader } from '${reader.href}'; import { systemClock } from '${clock.href}'
    console.log(await new Reader(systemClock).ask({ what: 'entry', key: 'no-such-file' }, '/', undefined))`
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program], { timeout: 30_000 })
  t.equal(stdout, 'null\n')
})
