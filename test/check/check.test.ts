import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Finding } from '../../src/check/finding.ts'
import { type Clock, systemClock } from '../../src/clock.ts'
import { cli } from '../support/cli.ts'
import { type Cluster, startCluster } from '../support/postgres.ts'
import { noSmallDisk, scratchDirectory, smallDisk } from '../support/scratch.ts'
import { type SidecarOptions, sidecarYaml } from '../support/sidecar.ts'

t.test('check', { timeout: 100_000 }, async (t) => {
  const cluster = await startCluster(t, { tcp: true })
  await cluster.createDatabase('app', 'create table t as select 1 as i')

  t.test('all is well', async (t) => {
    const { code, findings, text } = await check(t, cluster)
    t.equal(code, 0)
    t.same(
      findings.filter(({ status }) => status === 'error'),
      [],
    )
    for (const what of [
      /^GNU tar|tar \(GNU tar\)/,
      /^pg_dump 15/,
      /^a scratch server can be started/,
      /is a superuser/,
      /"app": 1 tables/,
      /can be written/,
      /^next dump at \d{4}-/,
    ])
      t.ok(
        findings.some((one) => one.status === 'ok' && what.test(one.what)),
        String(what),
      )
    const isolation = findings.find(({ what }) => /^scratch server.* namespaces of its own/.test(what))
    t.equal(isolation?.status, /without/.test(isolation?.what ?? '') ? 'warning' : 'ok', 'whether it is shut in')
    t.match(text, /^ok {7}server {7}PostgreSQL 15\./m)
    t.match(text, /^warning {2}schedule {5}no token[^\n]*\n {22}HINT: lifeboat token/m)
  })

  t.test('no server, wrong password, no such database', async (t) => {
    const nobody = { ...cluster.source, host: '/nonexistent' }
    t.match(await problems(t, cluster, { source: nobody }), [
      { area: 'server', what: /ENOENT/, hint: /the server runs/ },
    ])
    await cluster.sql(`create role guest login password 'p'`)
    const file = join(await scratchDirectory(t), 'password')
    await writeFile(file, 'wrong', { mode: 0o600 })
    const source = cluster.as('guest', 'wrong')
    const postgres = { host: source.host, port: source.port, user: 'guest', passwordFile: file, sslMode: 'disable' }
    t.match(await problems(t, cluster, { yaml: { postgres } }), [
      { what: /password authentication failed/, hint: /passwordFile/ },
    ])
    t.match(await problems(t, cluster, { databases: ['app', 'no such'] }), [
      { area: 'database', what: '"no such" does not exist' },
    ])
  })

  t.test('privileges that are missing', async (t) => {
    await cluster.sql('create role weak login')
    await cluster.sql('create schema hidden; create table hidden.x as select 1 as i', 'app')
    const { code, findings } = await check(t, cluster, { source: cluster.as('weak') })
    t.equal(code, 1)
    const errors = findings.filter(({ status }) => status === 'error')
    t.match(errors, [
      { what: /may not read all data/, hint: 'GRANT pg_read_all_data TO "weak"' },
      { what: /row security/, hint: 'ALTER ROLE "weak" BYPASSRLS' },
      { area: 'database', what: /"app": 2 tables cannot be read, e\.g\. / },
    ])
    const hints = findings.filter(({ status }) => status === 'warning').map(({ hint }) => hint ?? '')
    for (const hint of ['GRANT pg_monitor TO "weak"', 'lo_compat_privileges', 'GRANT SELECT ON pg_authid'])
      t.ok(
        hints.some((one) => one.includes(hint)),
        hint,
      )
    t.ok(
      findings.some(
        ({ status, what }) => status === 'ok' && /^this role cannot restore: .*--password-file$/.test(what),
      ),
    )
    // What the hints say, done, must be enough.
    await cluster.sql(
      `grant pg_read_all_data, pg_monitor to weak; alter role weak bypassrls; alter role weak set lo_compat_privileges = on`,
    )
    const mended = await check(t, cluster, { source: cluster.as('weak') })
    t.same(
      mended.findings.filter(({ status, area }) => status === 'error' || (status === 'warning' && area === 'server')),
      [],
    )
  })

  t.test(
    'an OS user for scratch servers that could do harm',
    { skip: userInfo().uid !== 0 && 'needs root' },
    async (t) => {
      t.match(await problems(t, cluster, { yaml: { verification: { osUser: 'postgres' } } }), [
        { area: 'programs', what: /postgres, who owns .*\.s\.PGSQL/, hint: /verification\.osUser .*useradd/ },
      ])
      t.match(await problems(t, cluster, { yaml: { verification: { osUser: 'nobody-of-this-name' } } }), [
        { area: 'programs', what: /no OS user "nobody-of-this-name"/, hint: /create the user/ },
      ])
    },
  )

  t.test('databases that no backup holds', async (t) => {
    const aside = 'app_before_20260301t020000z'
    await cluster.sql(`create database "${aside}"`)
    await cluster.sql('create database closed allow_connections false')
    t.teardown(async () => {
      await cluster.sql(`drop database "${aside}"`)
      await cluster.sql('drop database closed')
    })
    const told = async (databases?: readonly string[]) =>
      (await check(t, cluster, databases ? { databases } : {})).findings.filter(({ what }) =>
        / not backed up: /.test(what),
      )
    t.match(await told(), [
      {
        status: 'warning',
        what: `"${aside}" is not backed up: a restore has set it aside`,
        hint: /DROP DATABASE "app_b/,
      },
      { status: 'warning', what: '"closed" is not backed up: it allows no connections', hint: /ALLOW_CONNECTIONS/ },
    ])
    t.match(await told([aside]), [{ what: /^"closed"/ }], 'named in the configuration, it is backed up')
  })

  t.test('programs that are missing or too old', async (t) => {
    const path = process.env.PATH
    t.teardown(() => {
      process.env.PATH = path
    })
    process.env.PATH = t.testdir({})
    t.match(
      (await problems(t, cluster)).filter(({ area }) => area === 'programs'),
      [{ what: /program not found: tar/, hint: /install/ }],
    )
  })

  t.test('a directory of programs that holds none', async (t) => {
    const { host, port, user } = cluster.source
    const postgres = { host, port, user, sslMode: 'disable', binDir: join(t.testdir({}), 'bin') }
    t.match(await problems(t, cluster, { yaml: { postgres } }), [
      { area: 'programs', what: /^postgres\.binDir .*bin holds no pg_dump/, hint: /leave it out/ },
    ])
  })

  t.test('a repository that cannot be used, and copies that are lost together', async (t) => {
    const directory = t.testdir({ file: '', one: {}, two: {} })
    for (const path of [join(directory, 'file', 'x'), join(directory, 'mnt', 'disk', 'x')]) {
      const found = await problems(t, cluster, { repositories: { broken: path, one: join(directory, 'one') } })
      t.match(found, [
        {
          area: 'repository',
          what: /^broken: .* cannot be made: there is no directory/,
          hint: /mount what belongs there/,
        },
      ])
    }
    const fresh = await check(t, cluster, { repositories: { fresh: join(directory, 'fresh') } })
    t.equal(fresh.code, 0)
    t.match(
      fresh.findings.filter(({ area }) => area === 'repository'),
      [{ status: 'ok', what: /^fresh: the first backup makes .*fresh, [\d,]+ MiB free$/ }],
    )
    t.notOk(existsSync(join(directory, 'fresh')), 'looking makes nothing')
    const { code, findings } = await check(t, cluster, {
      repositories: { one: join(directory, 'one'), two: join(directory, 'two') },
    })
    t.equal(code, 0)
    t.match(
      findings.filter(({ what }) => /same disk/.test(what)),
      [{ status: 'warning', what: 'two and one are on the same disk' }],
    )
  })

  t.test('full disks', async (t) => {
    const disk = await smallDisk(t, 1024 * 1024)
    if (disk === null) return t.comment(noSmallDisk)
    const { code, findings } = await check(t, cluster, { repositories: { small: disk.directory } })
    t.equal(code, 0)
    t.ok(
      findings.some(
        ({ status, area, what }) => status === 'warning' && area === 'repository' && /less than the largest/.test(what),
      ),
    )
    await writeFile(join(disk.directory, 'filler'), Buffer.alloc(1024 * 1024 - 8192)).catch(() => {})
    await writeFile(join(disk.directory, 'more'), Buffer.alloc(64 * 1024)).catch(() => {})
    const full = await check(t, cluster, { repositories: { small: disk.directory } })
    t.equal(full.code, 1)
    t.match(
      full.findings.filter(({ status }) => status === 'error'),
      [{ area: 'repository', hint: /./ }],
    )
    const work = await check(t, cluster, { yaml: { workDir: disk.directory } })
    t.equal(work.code, 1)
    t.match(
      work.findings.filter(({ status }) => status === 'error'),
      [{ area: 'work folder', what: /cannot write/, hint: /workDir/ }],
    )
  })

  t.test('clocks that differ', async (t) => {
    const off = (ms: number): Clock => ({ ...systemClock, now: () => new Date(systemClock.now().getTime() + ms) })
    const clockOf = async (ms: number) =>
      (await check(t, cluster, {}, off(ms))).findings.find(({ area }) => area === 'clock')
    t.match(await clockOf(0), { status: 'ok' })
    t.match(await clockOf(10_000), {
      status: 'warning',
      what: /^the server's clock is (9|10)\.\d s behind ours/,
      hint: /NTP/,
    })
    t.match(await clockOf(-3_600_000), { status: 'error', what: /ahead of ours/ })
  })
})

interface Checked {
  readonly code: number
  readonly findings: readonly Finding[]
  readonly text: string
}

async function check(t: Test, cluster: Cluster, options: SidecarOptions = {}, clock = systemClock): Promise<Checked> {
  const directory = await scratchDirectory(t)
  const file = join(directory, 'lifeboat.yaml')
  await writeFile(file, sidecarYaml(cluster, directory, options), { mode: 0o600 })
  const json = await cli(['check', '--json', '-c', file], { clock })
  const text = await cli(['check', '-c', file], { clock })
  t.equal(json.err, '')
  t.equal(text.code, json.code)
  return { code: json.code, findings: JSON.parse(json.out) as Finding[], text: text.out }
}

async function problems(t: Test, cluster: Cluster, options: SidecarOptions = {}): Promise<readonly Finding[]> {
  const { code, findings } = await check(t, cluster, options)
  t.equal(code, 1)
  return findings.filter(({ status }) => status === 'error')
}
