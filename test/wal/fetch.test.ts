import { chmod, chown, copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { Cipher } from '../../src/encryption/cipher.ts'
import { restoreCommand } from '../../src/postgres/archiving.ts'
import { withSession } from '../../src/postgres/connection.ts'
import { programPath } from '../../src/postgres/installations.ts'
import { runProgram, startProgram } from '../../src/postgres/programs.ts'
import { createShipper } from '../../src/shipping/shipper.ts'
import { ageKey, encryptingFor } from '../support/age.ts'
import { closedCheckout, lifeboatProgram, repositoriesConfig } from '../support/lifeboat-program.ts'
import { keptLog } from '../support/log.ts'
import { type Cluster, type Major, startCluster } from '../support/postgres.ts'
import { isIdle, lookAtArchive, lookAtStored, untilState } from '../support/shipping.ts'
import { type Archive, makeArchive } from '../support/wal.ts'
import { hashOf } from '../support/wal-objects.ts'
import { type WalRepository, walRepository } from '../support/wal-repository.ts'

for (const major of [15, 17] as const) {
  t.test(`PostgreSQL ${major}: a recovery from the repositories alone`, { timeout: 240_000 }, async (t) => {
    const ground = await prepare(t, major)
    if (ground === null) return t.pass(closedCheckout)
    const { first, second, names, system, rows } = ground
    const at = (index: number) => names.at(index) ?? ''
    const pathIn = async (place: WalRepository, name: string) =>
      place.pathOf(name, hashOf(await readFile(join(ground.walDirectory, name))), system)

    await t.test('all of it is there', async (t) => {
      const { said, count } = await recover(ground, t)
      t.same(count, rows)
      t.match(said, /archive recovery complete/)
    })

    if (major === 15)
      await t.test('a hole', async (t) => {
        const path = await pathIn(first, at(8))
        await rename(path, `${path}-aside`)
        const { said, count } = await recover(ground, t)
        t.match(said, /lifeboat: \S+ is missing in every repository, and that is a hole: first has \S+/)
        t.match(said, /FATAL: {2}could not restore file/)
        t.equal(count, null, 'it has not opened')
        await rename(`${path}-aside`, path)
      })

    if (major === 17)
      await t.test('a damaged segment', async (t) => {
        const path = await pathIn(first, at(6))
        const bytes = await readFile(path)
        await writeFile(path, Buffer.concat([bytes.subarray(0, -20), Buffer.alloc(20)]))
        const { said, count } = await recover(ground, t)
        t.match(said, /lifeboat: cannot get \S+: first: .*not whole/)
        t.match(said, /FATAL: {2}could not restore file/)
        t.equal(count, null)
        await second.ship(join(ground.walDirectory, at(6)), system)
        await ground.own()
        t.same((await recover(ground, t)).count, rows, 'the other repository has it')
        await writeFile(path, bytes)
      })

    if (major === 15)
      await t.test('a repository whose disk is not mounted', async (t) => {
        await rename(second.root, `${second.root}-aside`)
        await mkdir(second.root)
        const { said, count } = await recover(ground, t)
        t.match(said, /second: there is no repository: nothing was ever written to it/)
        t.equal(count, null, 'what is missing in one may be in the other')
        await rm(second.root, { recursive: true })
        await rename(`${second.root}-aside`, second.root)
      })

    await t.test('the rest of the last segment', async (t) => {
      const path = await pathIn(first, at(-1))
      await rm(path)
      const { count: without } = await recover(ground, t)
      t.ok(without !== null && without < rows, 'the last row is in the last segment')
      const bytes = await readFile(join(ground.walDirectory, at(-1)))
      const [place] = await ground.cluster.sql<{ name: string }>(
        `select lpad(to_hex(('${ground.end}'::pg_lsn - '0/0')::bigint), 16, '0') as name`,
      )
      const name = `${at(-1)}.partial.${place?.name.toUpperCase()}`
      await first.store(name, bytes.subarray(0, Number.parseInt(name.slice(-5), 16)), system)
      await ground.own()
      t.same((await recover(ground, t)).count, rows)
    })

    if (major === 15) await t.test('encrypted', (t) => encrypted(ground, t))
  })
}

/** What was stored first is plain, the rest is shipped by who has the public key alone. */
async function encrypted(ground: Ground, t: Test): Promise<void> {
  const { archive, first, second, names, system, walDirectory, rows } = ground
  const { base, programs, user } = archive
  const keys = join(base, 'keys')
  await mkdir(keys, { mode: 0o755 })
  const [key, other] = [await ageKey(keys), await ageKey(keys, 'other')]
  const plain = join(base, 'finished')
  await mkdir(plain)
  for (const name of names) await copyFile(join(walDirectory, name), join(plain, name))
  for (const name of names.slice(4)) {
    const [found] = await first.repository.wal.ofSegment(system, name)
    if (found !== undefined) await first.repository.wal.remove(found)
  }
  const seen = await lookAtArchive(plain, 1)
  const held = await lookAtStored(first.repository, 2 ** 20, 1)
  const shipper = createShipper({
    archive: () => seen,
    stored: () => held,
    repositories: [first.repository],
    isOurs: () => true,
    systemIdentifiers: () => new Set([system]),
    cipher: new Cipher(encryptingFor([key], null)),
    ...{ parallel: 2, level: 3, keepInArchiveMs: null, clock: systemClock, log: keptLog().log },
  })
  shipper.start()
  await untilState(shipper, 'all is stored', isIdle)
  await shipper.stop()
  const command = async (identityFile: string | null) => {
    const config = await repositoriesConfig(keys, [first, second], identityFile === null ? {} : { identityFile })
    if (user !== null && identityFile !== null) await chown(identityFile, user.uid, user.gid)
    await ground.own()
    return restoreCommand(programs, null, { program: ground.program, config })
  }
  const found = await Promise.all(names.map((name) => first.repository.wal.ofSegment(system, name)))
  const isEncrypted = found.map((all) => all.filter(({ kind }) => kind === 'segment').map((one) => one.isEncrypted))
  t.same(
    isEncrypted,
    names.map((_, index) => [index >= 4]),
    'mixed',
  )
  const damaged = names[6] ?? ''
  const path = join(first.root, found[6]?.[0]?.info.key ?? '')
  const bytes = await readFile(path)
  bytes[bytes.length - 100] = (bytes[bytes.length - 100] ?? 0) ^ 1
  await writeFile(path, bytes)

  for (const [what, file, name, why] of [
    ['without a key', null, names[5], /cannot get \S+: first: it is encrypted, and no identity is configured/],
    ['with the key of somebody else', other.file, names.at(-1), /first: none of the configured identities opens it/],
    ['of a damaged one', key.file, damaged, /first: .*\.zst\.age is not whole: it cannot be decrypted/],
  ] as const)
    await t.test(`${what} it is not the end`, async (t) => {
      // Without the spool: who fills it would live on.
      const line = (await command(file))
        .replace(/--spool \S+/, '')
        .replace('%f', name ?? '')
        .replace('%p', 'RECOVERYXLOG')
      const running = await startProgram({ program: 'sh', args: ['-c', line], cwd: ground.copy, user })
      running.stdout.resume()
      t.match(await running.exited, { code: 126, stderr: why })
    })
  await t.test('no server opens without what it cannot read', async (t) => {
    const { said, count } = await recover({ ...ground, command: await command(null) }, t)
    t.match(said, /it is encrypted, and no identity is configured[\s\S]*FATAL: {2}could not restore file/)
    t.equal(count, null)
  })
  await t.test('with the key it comes to the end; the damaged one is in the other repository, plain', async (t) => {
    await second.ship(join(walDirectory, damaged), system)
    const { said, count } = await recover({ ...ground, command: await command(key.file) }, t)
    t.same(count, rows)
    t.match(said, /archive recovery complete/)
  })
}

interface Ground {
  readonly cluster: Cluster
  readonly archive: Archive
  readonly first: WalRepository
  readonly second: WalRepository
  readonly command: string
  /** `lifeboat` */
  readonly program: string
  readonly copy: string
  readonly walDirectory: string
  /** Of all segments from the base backup on; all are in the first repository. */
  readonly names: readonly string[]
  readonly system: string
  readonly rows: number
  /** The end of what was written. */
  readonly end: string
  /** Makes what is stored the server's user's. */
  own(): Promise<void>
}

/** A server, a base backup of it without WAL, and all its WAL in a repository. */
async function prepare(t: Test, major: Major): Promise<Ground | null> {
  const archive = await makeArchive(t)
  const { base, user, programs } = archive
  const program = await lifeboatProgram(base, user)
  if (program === null) return null
  const cluster = await startCluster(t, {
    major,
    hba: ['local replication all trust'],
    initdbArgs: ['-E', 'UTF8', '--locale=C', '--wal-segsize=1'],
    settings: { wal_keep_size: '4GB', full_page_writes: 'on', archive_mode: 'on', archive_command: 'true' },
  })
  const copy = join(base, 'copy')
  await cluster.sql('create table t (i int, text text)')
  await runProgram({
    program: programPath(cluster.installation, 'pg_basebackup'),
    args: ['-D', copy, '-X', 'none', '-c', 'fast', '-h', cluster.source.host, '-U', cluster.source.user],
    user,
    cwd: base,
  })
  const insert = 'insert into t select i, repeat(md5(i::text), 30) from generate_series(1, 1200) i'
  for (let round = 0; round < 24; round += 1) await cluster.sql(insert)
  await cluster.sql('select pg_switch_wal()')
  await cluster.sql('insert into t values (0)')
  const [end] = await cluster.sql<{ lsn: string; last: string; id: string; rows: number }>(
    `select pg_current_wal_insert_lsn()::text as lsn, pg_walfile_name(pg_current_wal_insert_lsn()) as last,
       (select system_identifier::text from pg_control_system()) as id, (select count(*)::int from t) as rows`,
  )
  await cluster.sql('select pg_switch_wal()')
  const { lsn = '', last = '', id: system = '', rows = 0 } = end ?? {}
  const [first, second] = [await walRepository(t, 'first', base), await walRepository(t, 'second', base)]
  const walDirectory = join(cluster.server.dataDirectory, 'pg_wal')
  const all = (await readdir(walDirectory)).filter((name) => /^[0-9A-F]{24}$/.test(name) && name <= last)
  const names = all.toSorted().slice(1)
  for (const name of all) await first.ship(join(walDirectory, name), system)
  await second.ship(join(walDirectory, all.toSorted()[0] ?? ''), system)
  const own = async () => {
    const owner = user === null ? [] : [first.root, second.root]
    if (owner.length > 0) await runProgram({ program: 'chown', args: ['-R', String(user?.uid), ...owner] })
  }
  await own()
  const config = await repositoriesConfig(base, [first, second])
  const command = restoreCommand(programs, null, { program, config })
  return {
    ...{ cluster, archive, first, second, command, program, copy, walDirectory, names, system, rows, own },
    end: lsn,
  }
}

/** Starts a copy of the base backup on its own. `count` is null if it never opened. */
async function recover(
  { cluster, archive, copy, command }: Ground,
  t: Test,
): Promise<{ readonly said: string; readonly count: number | null }> {
  const { base, user } = archive
  const [data, sockets] = [join(base, 'recovering'), join(base, 's')]
  await runProgram({ program: 'cp', args: ['-a', copy, data], user })
  await mkdir(sockets, { recursive: true })
  await chmod(sockets, 0o777)
  const signal = join(data, 'recovery.signal')
  await writeFile(signal, '')
  if (user !== null) await chown(signal, user.uid, user.gid)
  const settings = {
    unix_socket_directories: sockets,
    listen_addresses: '',
    archive_mode: 'off',
    restore_command: command,
    recovery_target_timeline: '1',
  }
  const server = await startProgram({
    program: programPath(cluster.installation, 'postgres'),
    args: ['-D', data, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
    user,
    cwd: base,
  })
  server.stdout.resume()
  let ended = false
  void server.exited.then(() => {
    ended = true
  })
  let count: number | null = null
  while (!ended && count === null) {
    const [row] = await withSession({ ...cluster.source, host: sockets }, { database: 'postgres' }, (session) =>
      session.query<{ count: number }>('select count(*)::int as count from t where (select not pg_is_in_recovery())'),
    ).catch(() => [])
    if (row !== undefined && row.count > 0) count = row.count
    else await delay(200)
  }
  server.kill('SIGINT')
  const { stderr } = await server.exited
  t.notMatch(stderr, /PANIC|crash/)
  await rm(data, { recursive: true })
  return { said: stderr, count }
}
