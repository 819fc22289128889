import { chown, mkdir, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { restoreProgram } from '../../src/postgres/archiving.ts'
import { startProgram } from '../../src/postgres/programs.ts'
import { closedCheckout, lifeboatProgram, repositoriesConfig } from '../support/lifeboat-program.ts'
import { noSmallDisk, smallDisk } from '../support/scratch.ts'
import { makeArchive, segmentBytes } from '../support/wal.ts'
import { hashOf } from '../support/wal-objects.ts'
import { stamped, system, walRepository } from '../support/wal-repository.ts'

const segment = (number: number) => `0000000100000002${number.toString(16).toUpperCase().padStart(8, '0')}`
const count = 12

/** A data directory, and what its restore_command gives; everything is in one repository. */
async function ground(t: Test) {
  const archive = await makeArchive(t)
  const { base, user, programs } = archive
  const program = await lifeboatProgram(base, user)
  if (program === null) return null
  const place = await walRepository(t, 'first', base)
  for (let number = 1; number <= count; number += 1) await place.store(segment(number))
  const data = join(base, 'data')
  await mkdir(join(data, 'global'), { recursive: true })
  await mkdir(join(data, 'pg_wal'))
  const own = async (...paths: readonly string[]) => {
    if (user === null) return
    for (const path of paths)
      for (const one of ['', ...(await readdir(path, { recursive: true }).catch(() => []))])
        await chown(join(path, one), user.uid, user.gid)
  }
  await writeFile(join(data, 'global', 'pg_control'), control(system))
  await own(place.root, data)
  const config = await repositoriesConfig(base, [place])
  const spoolOf = (parent = join(data, 'pg_wal', 'spool')) =>
    readdir(parent).then(
      ([name]) => (name === undefined ? null : join(parent, name)),
      () => null,
    )
  /** What is at %p afterwards. */
  const restore = async (name: string, spool = 'pg_wal/spool', options: readonly string[] = []) => {
    const target = join(data, 'pg_wal', 'RECOVERYXLOG')
    const args = ['--else', program, '--config', config, '--spool', spool, ...options, name, 'pg_wal/RECOVERYXLOG']
    const running = await startProgram({ program: join(programs, restoreProgram), args, user, cwd: data })
    running.stdout.resume()
    const { code, stderr } = await running.exited
    const bytes = await readFile(target).catch(() => null)
    await rm(target, { force: true })
    return { code, stderr, bytes }
  }
  const gives = async (t: Test, number: number, ...how: readonly string[]) => {
    const { code, stderr, bytes } = await restore(segment(number), ...how)
    t.equal(code, 0, `${number}: ${stderr}`)
    t.ok(bytes?.equals(stamped(segmentBytes(segment(number)))), `${number} is whole`)
  }
  const prefetcher = async () => {
    const spool = await spoolOf()
    return spool === null ? 0 : Number(await readFile(join(spool, 'prefetcher'), 'utf8').catch(() => '0'))
  }
  t.teardown(async () => {
    const pid = await prefetcher()
    if (pid > 0) kill(pid)
  })
  return { archive, data, place, own, spoolOf, restore, gives, prefetcher, config, program }
}

function control(systemIdentifier: string): Buffer {
  const bytes = Buffer.alloc(8192)
  bytes.writeBigUInt64LE(BigInt(systemIdentifier))
  return bytes
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // it has ended by itself
  }
}

/** Takes the spool away, whatever a living prefetcher puts into it meanwhile. */
function emptied(data: string): Promise<void> {
  return rm(join(data, 'pg_wal', 'spool'), { recursive: true, maxRetries: 20 })
}

t.test('a spool to which everything happens', { timeout: 240_000 }, async (t) => {
  const all = await ground(t)
  if (all === null) return t.pass(closedCheckout)
  const { gives, spoolOf, prefetcher, restore, place, data } = all
  await gives(t, 1)
  const spool = await spoolOf()
  const first = await prefetcher()
  t.ok(first > 0, 'it has started one that keeps the next ones ready')
  await gives(t, 2)
  t.equal(await prefetcher(), first, 'and not another one')

  // Two threads fetch them, and the one with an early one may be the later.
  const ready = [3, 4, 5, 6, 7, 8, 9].map(segment)
  await until(async () => {
    const there = await readdir(spool ?? '')
    return ready.every((name) => there.includes(name))
  })
  kill(first)
  await truncate(join(spool ?? '', segment(3)), 5)
  await truncate(join(spool ?? '', segment(4)), 0)
  await writeFile(join(spool ?? '', segment(5)), Buffer.alloc(1024 * 1024))
  await writeFile(join(spool ?? '', segment(6)), stamped(segmentBytes(segment(7))))
  await writeFile(join(spool ?? '', segment(7)), stamped(segmentBytes(segment(7)), '7500000000000000002'))
  for (const number of [3, 4, 5, 6, 7]) await gives(t, number)
  t.not(await prefetcher(), first, 'another one lives')

  kill(await prefetcher())
  await emptied(data)
  for (const number of [8, 9]) await gives(t, number)
  await emptied(data)
  for (const number of [10, 11, 12]) await gives(t, number)
  const end = await restore(segment(13))
  t.same([end.code, end.stderr, end.bytes], [1, '', null], 'the end')
  await place.store(segment(15))
  await all.own(place.root)
  t.match(await restore(segment(13)), { code: 126, stderr: /a hole: first has/, bytes: null })
  t.match(await restore(segment(13), 'pg_wal/spool', ['--missing-is-end']), { code: 1, stderr: '', bytes: null })
  await rm(place.pathOf(segment(15), hashOf(stamped(segmentBytes(segment(15))))))
  await writeFile(place.pathOf(segment(2), hashOf(stamped(segmentBytes(segment(2))))), 'damaged')
  t.match(await restore(segment(2)), { code: 126, stderr: /could not tell whether/, bytes: null })
  t.match(await restore('00000002.history'), { code: 1, stderr: '' })
})

t.test('a recovery of another cluster gets nothing of it', { timeout: 120_000 }, async (t) => {
  const all = await ground(t)
  if (all === null) return t.pass(closedCheckout)
  const { gives, restore, data, place, own } = all
  await gives(t, 1)
  const other = '7500000000000000002'
  await place.store(segment(2), stamped(segmentBytes(segment(2), 9), other), other)
  await writeFile(join(data, 'global', 'pg_control'), control(other))
  await own(place.root)
  const { code, bytes } = await restore(segment(2))
  t.equal(code, 0)
  t.ok(bytes?.equals(stamped(segmentBytes(segment(2), 9), other)))
  t.match(await restore(segment(3)), { code: 1, bytes: null })
})

t.test('where there can be no spool, each file is fetched by itself', { timeout: 120_000 }, async (t) => {
  const all = await ground(t)
  if (all === null) return t.pass(closedCheckout)
  const { gives, restore, archive, data } = all
  await writeFile(join(data, 'file'), '')
  await gives(t, 1, 'file/spool')
  await rm(join(data, 'global', 'pg_control'))
  await gives(t, 2)
  const disk = await smallDisk(t, 1.5 * 1024 * 1024)
  if (disk === null) return t.pass(noSmallDisk)
  await writeFile(join(data, 'global', 'pg_control'), control(system))
  for (const number of [1, 2, 3]) await gives(t, number, disk.directory)
  const [spool = ''] = await readdir(disk.directory)
  kill(Number(await readFile(join(disk.directory, spool, 'prefetcher'), 'utf8')))
  for (const args of [['--spool'], ['--spool', ''], ['--config'], ['--else', 'x', '--ahead']]) {
    const program = join(archive.programs, restoreProgram)
    const running = await startProgram({ program, args: [...args], cwd: data })
    running.stdout.resume()
    t.equal((await running.exited).code, 126, args.join(' '))
  }
  t.match(await restore('x'), { code: 126, stderr: /no name of a WAL file/ })
})

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition().catch(() => false))) await delay(20)
}
