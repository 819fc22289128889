import { mkdir, readdir, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import t, { type Test } from 'tap'
import { runDemo } from '../../src/demo/demo.ts'
import { removeLeftovers } from '../../src/demo/leftovers.ts'
import { socketSource, withSession } from '../../src/postgres/connection.ts'
import { killOrphans } from '../../src/postgres/orphans.ts'
import { startProgram } from '../../src/postgres/programs.ts'
import { readVersion } from '../../src/version.ts'
import { cli } from '../support/cli.ts'
import { freePort } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'

interface Play {
  readonly once: boolean
  readonly port: number
  /** Called once with what was printed, when it first holds this text. */
  readonly at?: { readonly text: string; readonly act: (printed: string) => Promise<void> }
}

/** Runs the demo; `stop` ends it as Ctrl-C does. */
function play({ once, port, at }: Play): { stop: () => void; ended: Promise<{ status: number; printed: string }> } {
  const controller = new AbortController()
  let printed = ''
  let acting: Promise<void> | undefined
  const out = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      printed += chunk.toString()
      if (at !== undefined && printed.includes(at.text)) acting ??= at.act(printed)
      done()
    },
  })
  const ended = runDemo({ once, port, out, version: readVersion(), signal: controller.signal })
  return {
    stop: () => controller.abort(),
    ended: ended.then(async (status) => {
      await acting
      return { status, printed }
    }),
  }
}

async function invoicesIn(host: string): Promise<readonly string[]> {
  const rows = await withSession(
    socketSource({ host, port: 5432, user: 'postgres' }),
    { database: 'studio' },
    (session) => session.query<{ rows: string }>('select count(*) as rows from invoices'),
  )
  return rows.map(({ rows: found }) => found)
}

/** A temporary directory of their own for all demos of this file; nothing may be left in it. */
async function ownTemporaryDirectory(t: Test): Promise<string> {
  const directory = await scratchDirectory(t)
  const before = process.env.TMPDIR
  process.env.TMPDIR = directory
  t.teardown(() => {
    if (before === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = before
  })
  return directory
}

t.test('the demo', { timeout: 240_000 }, async (t) => {
  const temporary = await ownTemporaryDirectory(t)
  const nothingLeft = async (t: Test) => {
    t.same(await readdir(temporary), [], 'no file is left')
    t.same(await killOrphans(temporary), [], 'no process is left')
  }

  await t.test('holds every step, on another port when its own is taken, and stays up', async (t) => {
    const taken = createServer()
    const port = await freePort()
    await new Promise<void>((resolve) => taken.listen(port, '127.0.0.1', resolve))
    t.teardown(() => taken.close())
    const demo = play({
      once: false,
      port,
      at: {
        text: 'until Ctrl-C',
        act: async (printed) => {
          const [url = ''] = /http:\S+/.exec(printed) ?? []
          t.match(await (await fetch(new URL('/', url))).text(), '<!doctype html>')
          t.match(await (await fetch(new URL('/metrics', url))).text(), 'lifeboat_backups')
          const [, token] = /TOKEN=(\S+)/.exec(printed) ?? []
          const headers = { authorization: `Bearer ${token}` }
          t.match(await (await fetch(new URL('/api/backups', url), { headers })).json(), { backups: { length: 4 } })
          t.same(
            await invoicesIn(/psql -h (\S+)/.exec(printed)?.[1] ?? ''),
            ['403'],
            'what was lost is there to be looked at',
          )
          const [, file = ''] = /LIFEBOAT_CONFIG=(\S+)/.exec(printed) ?? []
          t.match(await cli(['plan'], { env: { LIFEBOAT_CONFIG: file } }), { code: 0, out: /the newest WAL/ })
          demo.stop()
        },
      },
    })
    const { status, printed } = await demo.ended
    t.equal(status, 0, printed)
    t.same(printed.match(/^\d\. .*$|^Every step held\.$/gm), [
      '1. A database to lose',
      '2. Take a backup',
      '3. Prove it by restoring it',
      '4. Flip one bit in the other copy',
      '5. Go back to the moment before a mistake',
      'Every step held.',
    ])
    t.notMatch(printed, 'NOT SO')
    t.notMatch(printed, `:${port}/`)
    t.match(printed, 'checksum-mismatch')
    t.match(printed, /reached: [0-9A-F]+\/[0-9A-F]+ on timeline 1, last commit 2/)
    t.notMatch(printed, '\u001b', 'no colours where no person sees them')
    t.same(
      printed
        .replaceAll(temporary, '/tmp')
        .split('\n')
        .filter((line) => line.length >= 80),
      [],
      'lines of less than 80 columns',
    )
    await nothingLeft(t)
  })

  await t.test('removes what a killed one left behind, server and all', async (t) => {
    const [gone, alive] = [
      join(temporary, 'lifeboat-demo-4194305-x'),
      join(temporary, `lifeboat-demo-${process.pid}-x`),
    ]
    for (const directory of [gone, alive, join(temporary, 'lifeboat-demo-kept-x')]) await mkdir(directory)
    const server = await startProgram({ program: 'sleep', args: ['60'], cwd: gone })
    t.teardown(() => server.kill('SIGKILL'))
    await removeLeftovers('lifeboat-demo-')
    t.match(await server.exited, { signal: 'SIGKILL' })
    t.same((await readdir(temporary)).toSorted(), [`lifeboat-demo-${process.pid}-x`, 'lifeboat-demo-kept-x'])
    for (const name of await readdir(temporary)) await rm(join(temporary, name), { recursive: true })
  })

  const steps = ['1. A database', 'POST /api/admin/verify', '$ lifeboat restore']
  for (const text of steps) {
    await t.test(`cleans up when it is stopped at: ${text}`, async (t) => {
      const demo = play({ once: true, port: await freePort(), at: { text, act: async () => demo.stop() } })
      const { status, printed } = await demo.ended
      t.equal(status, 130, printed)
      t.notMatch(printed, 'clean-up:')
      await nothingLeft(t)
    })
  }
})
