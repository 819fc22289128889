import { chown, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3'
import t, { type Test } from 'tap'
import { systemClock } from '../src/clock.ts'
import { backupId } from '../src/domain/backup.ts'
import type { Estimate } from '../src/domain/cost.ts'
import { serverOsUser } from '../src/postgres/os-user.ts'
import { runProgram } from '../src/postgres/programs.ts'
import { Repository } from '../src/repository/repository.ts'
import type { Run } from '../src/runner/job.ts'
import { S3Storage } from '../src/storage/s3.ts'
import { leastRights } from './s3-rights.ts'
import { cli } from './support/cli.ts'
import { stopRestored } from './support/restoring.ts'
import { cannotHaveS3, startS3, testKeys } from './support/s3.ts'
import { type Served, serve } from './support/serve.ts'
import { startTcpProxy } from './support/tcp-proxy.ts'
import { untilAnswer } from './support/until.ts'
import { finishSegment, type WalGround, walGround, walReport } from './support/wal-ground.ts'

const price = { storage: 0.01, put: 0.005, get: 0.0004, retrieval: 0 }
const costs = {
  prices: [
    {
      ...{ name: 'made-up', asOf: '2026-03-01', source: 'a test' },
      classes: [
        { class: 'STANDARD', ...price, storage: 0.02 },
        { class: 'STANDARD_IA', ...price, minimumDuration: '30d' },
      ],
    },
  ],
}

const skip = await cannotHaveS3()

await t.test('a bucket as the only repository', { skip, timeout: 280_000 }, async (t) => {
  const [server, ground] = await Promise.all([startS3(t), walGround(t)])
  const { bucket } = await server.bucket()
  const { cluster, archive } = ground
  await cluster.createDatabase('app', 'create table t as select i, md5(i::text) from generate_series(1, 5000) as i')
  for (const name of ['accessKeyId', 'secretAccessKey'] as const) {
    await writeFile(join(archive.base, name), testKeys[name], { mode: 0o600 })
  }
  const offsite = {
    ...{ name: 'offsite', url: `s3://${bucket}/prod`, endpoint: server.endpoint, storageClass: 'STANDARD_IA' },
    accessKeyIdFile: join(archive.base, 'accessKeyId'),
    secretAccessKeyFile: join(archive.base, 'secretAccessKey'),
    prices: 'made-up',
  }
  const yaml = (...repositories: object[]) => withRepositories(ground, repositories)
  const served = await serve(archive.base, yaml(offsite))
  t.teardown(() => served.end())

  await t.test('a dump, a full backup and WAL go there', async (t) => {
    for (const type of ['dump', 'full']) t.equal(await runOf(served, 'backup', { type }), 'succeeded', type)
    const name = await finishSegment(cluster)
    await untilAnswer('the segment is stored', async () => (await keysIn()).some((key) => key.includes(`/${name}-`)))
    await untilAnswer('nothing is left to do', async () => {
      const [local] = (await walReport(served)).repositories
      return local?.backlogSegments === 0 && local.segments > 0
    })
    const keys = await keysIn()
    t.same(
      keys.filter((key) => !/^prod\/test\/(backups|wal|leases|repository\.json)/.test(key)),
      [],
      'all of it is below the prefix',
    )
    const dump = keys.find((key) => key.endsWith('/dump.tar')) ?? ''
    const classOf = async (key: string) =>
      (await server.client.send(new HeadObjectCommand({ Bucket: bucket, Key: key }))).StorageClass ?? 'STANDARD'
    t.equal(await classOf(keys.find((key) => key.endsWith('/base.tar.zst')) ?? ''), 'STANDARD_IA')
    t.equal(await classOf(dump.replace('dump.tar', 'manifest.json')), 'STANDARD')
    t.equal(await classOf(keys.find((key) => key.includes(`/${name}-`)) ?? ''), 'STANDARD')
  })

  await t.test('they are seen there, and proven by a restore', async (t) => {
    t.equal(await runOf(served, 'verify', {}), 'succeeded')
    await untilAnswer('seen', async () =>
      /^lifeboat_backup_proven_timestamp_seconds\{.*repository="offsite"/m.test(await metrics(served)),
    )
    const text = await metrics(served)
    t.match(text, /^lifeboat_repository_up\{.*repository="offsite".*\} 1$/m)
    t.notMatch(text, /^lifeboat_repository_free_bytes/m, 'a bucket has no end')
    t.match(text, /^lifeboat_recovery_point_timestamp_seconds\{.*repository="offsite"/m)
  })

  await t.test('what it costs is estimated by the prices of the configuration', async (t) => {
    await untilAnswer('how much WAL comes is known', async () =>
      /^lifeboat_repository_monthly_cost_dollars\{.*repository="offsite"\} [\d.e-]+$/m.test(await metrics(served)),
    )
    const asked = [
      'report',
      '--cost',
      '-c',
      join(archive.base, 'lifeboat.yaml'),
      '--storage-class',
      'STANDARD',
      '--json',
    ]
    const { code, out, err } = await cli(asked)
    t.equal(code, 0, err)
    const { repositories } = JSON.parse(out) as { repositories: { today: Estimate; whatIf: object }[] }
    const [report] = repositories
    for (const one of [
      { kind: 'storage', storageClass: 'STANDARD_IA' },
      { kind: 'storage', storageClass: 'STANDARD' },
      { kind: 'writes', storageClass: 'STANDARD' },
    ])
      t.has(
        report?.today.items.find((item) => item.kind === one.kind && item.storageClass === one.storageClass),
        one,
      )
    t.match(report?.whatIf, { classes: { backups: 'STANDARD' }, once: { move: { way: 'copy' } } })
  })

  await t.test('check tries the bucket, and restore reads it', async (t) => {
    const file = join(archive.base, 'lifeboat.yaml')
    const checked = await cli(['check', '-c', file])
    t.match(checked.out, /ok +repository +offsite: s3:.* can be written, listed, read and removed from/)
    t.notOk(
      (await keysIn()).some((key) => key.includes('.lifeboat-check')),
      'nothing of it stays',
    )
    const restored = await cli(['restore', '-c', file, '--database', 'app', '--to', 'again'])
    t.equal(restored.code, 0, restored.err)
    t.match(await cluster.sql('select count(*)::int as rows from t', 'again'), [{ rows: 5000 }])
    const whole = await cli(['restore', '-c', file, '--to', join(archive.base, 'restored'), '--latest'])
    t.equal(whole.code, 0, whole.err)
    await serverReadsAlone(t, ground, file)
    await writeFile(join(archive.base, 'bad.yaml'), yaml({ ...offsite, url: 's3://no-such-bucket' }), { mode: 0o600 })
    const bad = await cli(['check', '-c', join(archive.base, 'bad.yaml')])
    t.match(bad.out, /error +repository .*\n +HINT: make the bucket/)
  })

  await t.test('what somebody else does to it is seen without reading it', async (t) => {
    const key = (await keysIn()).find((one) => one.endsWith('/dump.tar')) ?? ''
    const target = { Bucket: bucket, Key: key }
    const { Body } = await server.client.send(new GetObjectCommand(target))
    const bytes = (await Body?.transformToByteArray()) ?? new Uint8Array()
    const unusable = (count: number) =>
      untilAnswer(`${count} unusable`, async () =>
        new RegExp(`^lifeboat_backups_unusable\\{.*state="invalid".*\\} ${count}$`, 'm').test(await metrics(served)),
      )
    const put = (Body: Uint8Array, Key = key) => server.client.send(new PutObjectCommand({ Bucket: bucket, Key, Body }))
    await unusable(0)
    for (const spoil of [
      () => server.client.send(new DeleteObjectCommand(target)),
      () => put(bytes.subarray(1)),
      () => put(Buffer.alloc(bytes.length)),
    ]) {
      await spoil()
      await unusable(1)
      await put(bytes)
      await unusable(0)
    }
    await put(bytes, 'prod/test/backups/of-somebody-else.tar')
    await untilAnswer('a foreign object', async () =>
      /^lifeboat_repository_foreign_objects\{.*\} 1$/m.test(await metrics(served)),
    )
    t.match(await metrics(served), /^lifeboat_s3_requests_total\{.*operation="ListObjectsV2".*\} \d+$/m)
    t.match(await metrics(served), /^lifeboat_s3_request_errors_total\{.*operation="PutObject".*\} 0$/m)
  })

  await t.test('one that is not the same any more is not written into', async (t) => {
    await server.client.send(new DeleteObjectCommand({ Bucket: bucket, Key: 'prod/test/repository.json' }))
    await untilAnswer('seen', async () => /^lifeboat_repository_up\{.*\} 0$/m.test(await metrics(served)))
    t.equal(await runOf(served, 'backup', { type: 'dump' }), 'failed')
    t.equal((await cli(['adopt', 'offsite', '-c', join(archive.base, 'lifeboat.yaml')])).code, 0)
    await untilAnswer('up again', async () => /^lifeboat_repository_up\{.*\} 1$/m.test(await metrics(served)))
  })

  await t.test('one that hangs delays nobody but itself, and catches up', async (t) => {
    await served.end()
    const proxy = await startTcpProxy(t, server.port)
    const { bucket: other } = await server.bucket()
    const hung = {
      ...{ ...offsite, name: 'hung', url: `s3://${other}`, endpoint: `http://127.0.0.1:${proxy.port}` },
    }
    proxy.hangs = true
    // The one that hangs is the first: nobody may wait for it.
    const again = await serve(archive.base, yaml(hung, offsite))
    t.teardown(() => again.end('SIGKILL'))
    await untilAnswer('the other one is seen', async () => /up\{.*"offsite".*\} 1$/m.test(await metrics(again)))
    const run = await ended(again, 'backup', { type: 'dump' })
    t.match(run, {
      state: 'failed',
      failure: { code: 'storage-unreachable', message: /in hung/ },
      items: [
        { outcome: 'succeeded', repository: 'offsite' },
        { outcome: 'failed', repository: 'hung' },
      ],
    })
    const full = await ended(again, 'backup', { type: 'full' })
    t.match(full, {
      state: 'failed',
      failure: { code: 'storage-unreachable', message: /1 of 2 repositories have no backup: hung/ },
      items: [
        { outcome: 'failed', repository: 'hung' },
        { outcome: 'succeeded', repository: 'offsite' },
      ],
    })
    await untilAnswer('it is told to be down', async () => /up\{.*"hung".*\} 0$/m.test(await metrics(again)))
    const name = await finishSegment(cluster)
    await untilAnswer('WAL goes to the other one', async () =>
      (await keysIn()).some((key) => key.includes(`/${name}-`)),
    )
    const file = join(archive.base, 'lifeboat.yaml')
    const commands = [['list'], ['plan', '--latest'], ['restore', '--database', 'app', '--to', 'beside']]
    for (const command of commands)
      t.match(await cli([...command, '-c', file]), { out: /offsite|beside/ }, command.join(' '))

    proxy.hangs = false
    const missed = [run, full].map(({ items }) => items.find(({ outcome }) => outcome === 'succeeded')?.backupId ?? '')
    const there = async () => (await keysIn(other)).filter((key) => key.endsWith('/manifest.json'))
    const hasAll = async () => {
      const keys = await there()
      return missed.every((id) => keys.some((key) => key.includes(id)))
    }
    // A copy that came too early is tried again after a minute.
    await untilAnswer('it has what it missed', hasAll, { seconds: 130 })
    t.match(await metrics(again), /^lifeboat_job_runs_total\{.*job="copy".*\} [2-9]/m)
    t.equal(await runOf(again, 'verify', { repository: 'hung', level: 'artifact' }), 'succeeded', 'and it is sound')
  })

  await t.test('keys with no more rights than they need', (t) => leastRights(t, server, ground))

  await t.test('two writers of one backup', async (t) => {
    const settings = await server.bucket()
    const writers = [1, 2].map(() => {
      const storage = new S3Storage({ settings })
      return new Repository({ name: 'shared', cluster: 'test', storage, clock: systemClock })
    })
    const id = backupId(new Date(), 'dump', 'abcdef')
    const options = { runId: 'test', signal: new AbortController().signal }
    const begun = await Promise.allSettled(writers.map((one) => one.beginBackup(id, options)))
    t.same(begun.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected'])
    t.match(
      begun.find(({ status }) => status === 'rejected'),
      { reason: { code: 'conflict' } },
    )
    const winner = begun.find((one) => one.status === 'fulfilled')?.value
    t.match(await winner?.put('RESTORE.md', Buffer.from('mine')), { stored: { bytes: 4 } }, 'the first one goes on')
    await winner?.abandon()
    t.same(await keysIn(settings.bucket), [], 'and leaves nothing')
  })

  async function keysIn(of = bucket): Promise<string[]> {
    const page = await server.client.send(new ListObjectsV2Command({ Bucket: of }))
    return (page.Contents ?? []).map(({ Key = '' }) => Key)
  }
})

function withRepositories(ground: WalGround, repositories: readonly object[]): string {
  const config = JSON.parse(ground.yaml()) as object
  return JSON.stringify({ ...config, observe: { interval: '1s', timeout: '4s' }, repositories, costs })
}

async function metrics(served: Served): Promise<string> {
  return (await served.request('/metrics')).text()
}

/** Starts a job and gives the state it ends in. */
async function runOf(served: Served, what: string, body: object): Promise<string> {
  return (await ended(served, what, body)).state
}

/** Starts a job and gives the run when it has ended. */
async function ended(served: Served, what: string, body: object): Promise<Run> {
  const { id } = (await (await served.request(`/api/admin/${what}`, body)).json()) as { id: string }
  return untilAnswer(what, async () => {
    const run = (await (await served.request(`/api/runs/${id}`)).json()) as Run
    return run.finishedAt !== null && run
  })
}

/** A server that somebody starts by hand after `--no-start` finds the bucket and its keys, by files that hold them. */
async function serverReadsAlone(t: Test, { cluster, archive: { base } }: WalGround, config: string): Promise<void> {
  const owner = await serverOsUser('postgres')
  for (const name of ['accessKeyId', 'secretAccessKey'])
    if (owner !== null) await chown(join(base, name), owner.uid, owner.gid)
  const to = join(base, 'by-hand')
  t.teardown(() => stopRestored(cluster, to))
  const { code, out, err } = await cli(['restore', '-c', config, '--to', to, '--latest', '--no-start', '--json'])
  t.equal(code, 0, err)
  const { items } = JSON.parse(out) as Run
  t.match(items, [{ outcome: 'succeeded', warnings: undefined }], 'it can fetch WAL')
  t.notMatch(await readFile(join(to, 'lifeboat-restore', 'lifeboat.yaml'), 'utf8'), testKeys.secretAccessKey)
  await runProgram({ program: 'sh', args: ['-c', items[0]?.restored?.start ?? ''] })
  const log = await readFile(join(to, 'lifeboat-restore', 'server.log'), 'utf8')
  t.match(log, /restored log file "\w+" from archive/)
}
