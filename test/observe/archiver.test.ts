import { chmod, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { createArchiverLook, missingFrom } from '../../src/observe/archiver.ts'
import { sampleArchiver } from '../../src/postgres/archiver.ts'
import { withSession } from '../../src/postgres/connection.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { cannotHave, startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'

for (const major of [15, 18] as const) {
  const skip = await cannotHave(major)
  t.test(`the seven states of the archiver of PostgreSQL ${major}`, { skip, timeout: 180_000 }, async (t) => {
    const directory = await scratchDirectory(t)
    const archive = join(directory, 'archive')
    await mkdir(archive)
    for (const one of [directory, archive]) await chmod(one, 0o777)
    const command = join(directory, 'command')
    const mode = (text: string) => writeFile(join(directory, 'mode'), text)
    await mode('ok')
    await writeFile(
      command,
      `#!/bin/sh
case "$(cat '${directory}/mode')" in
  ok) cp "$1" '${archive}/'"$2" ;;
  lie) exit 0 ;;
  hang) echo $$ > '${directory}/pid'; exec sleep 100000 ;;
  fail) exit 1 ;;
  die) kill -9 $PPID; exit 1 ;;
esac
`,
      { mode: 0o755 },
    )
    const cluster = await startCluster(t, {
      major,
      settings: { archive_mode: 'on', archive_command: `'${command}' "%p" "%f"` },
    })
    const clock = new FakeClock()
    const sample = () => withSession(cluster.source, { database: 'postgres' }, sampleArchiver)
    const look = createArchiverLook({ sample, missing: missingFrom(archive), clock })
    const signal = new AbortController().signal
    const segment = async () => {
      await cluster.sql('select pg_create_restore_point($$here$$)')
      const [row] = await cluster.sql<{ name: string }>('select pg_walfile_name(pg_switch_wal()) as name')
      return row?.name ?? ''
    }
    const until = async (state: string, advanceMs = 0) => {
      for (let tries = 0; ; tries += 1) {
        await clock.advance(advanceMs)
        const view = await look(signal)
        if (view.state === state) return view
        if (tries > 2000) throw new Error(`${state} was to come: ${JSON.stringify(view)}`)
        await new Promise((resolve) => {
          setTimeout(resolve, 20)
        })
      }
    }

    t.match(await until('idle'), { state: 'idle', failed: 0, ready: 0 })
    await clock.advance(10 * 86_400_000)
    t.match(await look(signal), { state: 'idle' }, 'nobody writes: that is no stall')
    await segment()
    await until('idle')

    await mode('hang')
    const hung = await segment()
    const working = await until('archiving')
    t.equal(working.ready, 1)
    await clock.advance(59_000)
    t.equal((await look(signal)).state, 'archiving')
    t.match(await until('hung', 1000), {
      detail: new RegExp(`has not returned for 6\\d s; 1 file waits, ${hung} first`),
    })
    await mode('ok')
    await cluster.sql(`copy t from program 'kill $(cat ${directory}/pid); echo 1'`).catch(() => undefined)
    await cluster.sql('create table t (i int)')
    await cluster.sql(`copy t from program 'kill $(cat ${directory}/pid); echo 1'`)
    await until('idle', 1000)

    await mode('fail')
    const failed = await segment()
    t.match(await until('failing'), { detail: new RegExp(`archive_command fails, last for ${failed}; 1 file waits`) })
    await clock.advance(60_000)
    t.match(await look(signal), { state: 'failing' }, 'while it rests after three failures too')
    t.ok((await look(signal)).failed > 0)
    await mode('ok')
    await cluster.sql('select pg_reload_conf()')
    await until('idle', 1000)

    await mode('die')
    await segment()
    t.match(await until('failing', 1000), { detail: /the archiver (does not run|dies)/ })
    await mode('ok')
    await until('idle', 1000)

    await mode('lie')
    const lost = await segment()
    t.match(await until('lying'), { detail: new RegExp(`takes ${lost} for archived, and it is not in the archive`) })
    await writeFile(join(archive, lost), 'put there by hand')
    await mode('ok')
    await until('idle')

    await clock.advance(151_000)
    await until('idle') // its death is long ago
    await mode('hang')
    for (let index = 0; index < 16; index += 1) await segment()
    t.match(await until('lagging'), { ready: 16 })
    await rm(join(directory, 'pid'), { force: true })
  })
}

t.test('archiving that is off', async (t) => {
  const cluster = await startCluster(t, { major: 17 })
  const sample = () => withSession(cluster.source, { database: 'postgres' }, sampleArchiver)
  const look = createArchiverLook({ sample, missing: null, clock: new FakeClock() })
  const { signal } = new AbortController()
  t.match(await look(signal), { state: 'off', detail: 'archive_mode is off', archived: 0 })
  const empty = await startCluster(t, { settings: { archive_mode: 'on', archive_command: '' } })
  const other = createArchiverLook({
    sample: () => withSession(empty.source, { database: 'postgres' }, sampleArchiver),
    missing: null,
    clock: new FakeClock(),
  })
  t.match(await other(signal), { state: 'off', detail: /archive_command is empty/ })
})

t.test('a role that may not see what waits', async (t) => {
  const cluster = await startCluster(t, { settings: { archive_mode: 'on', archive_command: 'exit 1' } })
  await cluster.sql('create role plain login')
  const look = createArchiverLook({
    sample: () => withSession(cluster.as('plain'), { database: 'postgres' }, sampleArchiver),
    missing: missingFrom('/nowhere'),
    clock: new FakeClock(),
  })
  const { signal } = new AbortController()
  const hidden = { state: null, detail: /needs pg_monitor/, ready: null }
  const first = await look(signal)
  if (first.failed === 0) t.match(first, hidden)
  await cluster.sql('select pg_create_restore_point($$here$$)')
  await cluster.sql('select pg_switch_wal()')
  for (let view = first; view.state !== 'failing'; view = await look(signal)) {
    if (view.state !== null) throw new Error(JSON.stringify(view))
    await new Promise((resolve) => {
      setTimeout(resolve, 20)
    })
  }
  t.pass('what the counters tell, everybody may know')
})

t.test('an archive that is empty, as where no disk is mounted, tells of no lie', async (t) => {
  const archive = t.testdir({})
  const missing = missingFrom(archive)
  const names = ['000000010000000000000001', '000000010000000000000002']
  const { signal } = new AbortController()
  t.equal(missingFrom(null), null)
  if (missing === null) throw new Error('an archive was named')
  await t.rejects(missing(names, signal), {
    code: 'storage-failed',
    message: `the archive directory ${archive} is empty`,
    hint: /^mount what belongs there/,
  })
  await writeFile(join(archive, '000000010000000000000002'), '')
  t.same(await missing(names, signal), ['000000010000000000000001'])
  await rm(archive, { recursive: true })
  await t.rejects(missing(names, signal), { code: 'storage-failed', message: /ENOENT/ }, 'nor does one that is gone')
})
