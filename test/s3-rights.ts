import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CreateBucketCommand, PutBucketPolicyCommand, PutObjectLockConfigurationCommand, S3 } from '@aws-sdk/client-s3'
import type { Test } from 'tap'
import { S3Storage } from '../src/storage/s3.ts'
import { cli } from './support/cli.ts'
import { bucketPolicy, type PolicyName } from './support/policies.ts'
import { type S3Server, s3Settings, testKeys } from './support/s3.ts'
import { serve } from './support/serve.ts'
import { startSidecar } from './support/sidecar.ts'
import { untilAnswer } from './support/until.ts'
import { finishSegment, type WalGround } from './support/wal-ground.ts'

const Bucket = 'least-rights'
const users = { keeper: 'writer', writer: 'writer-without-expiry', restorer: 'restorer', observer: 'observer' } as const
type User = keyof typeof users

/** A bucket with Object Lock, of another's, in which each user may do what a policy of the documentation says. */
export async function leastRights(t: Test, server: S3Server, ground: WalGround): Promise<void> {
  const { base } = ground.archive
  const { client } = server
  const owner = new S3({ endpoint: server.endpoint, region: 'us-east-1', forcePathStyle: true, credentials: testKeys })
  await client.send(new CreateBucketCommand({ Bucket, ObjectLockEnabledForBucket: true }))
  const of: { bucket: string; prefix: string; users: Record<string, PolicyName> } = {
    ...{ bucket: Bucket, prefix: 'prod', users },
  }
  const sdk = new Map<User, S3>()
  for (const name of Object.keys(users) as User[]) {
    const keys = await server.user(name)
    for (const [file, key] of Object.entries(keys)) await writeFile(join(base, `${name}-${file}`), key, { mode: 0o600 })
    sdk.set(name, new S3({ endpoint: server.endpoint, region: 'us-east-1', forcePathStyle: true, credentials: keys }))
  }
  t.teardown(() => {
    for (const one of [owner, ...sdk.values()]) one.destroy()
  })
  await client.send(new PutBucketPolicyCommand({ Bucket, Policy: await bucketPolicy(of) }))
  const keysOf = (user: User) => async () => {
    const { accessKeyId, secretAccessKey } = await as(user).config.credentials()
    return { accessKeyId, secretAccessKey }
  }
  const as = (user: User): S3 => sdk.get(user) ?? new S3()
  const repositories = (user: User) => [
    {
      ...{ name: 'safe', url: `s3://${Bucket}/prod`, endpoint: server.endpoint, retention: { keepFor: '3d' } },
      accessKeyIdFile: join(base, `${user}-accessKeyId`),
      secretAccessKeyFile: join(base, `${user}-secretAccessKey`),
    },
  ]
  const configured = JSON.parse(ground.yaml()) as { readonly postgres: object }
  const yaml = (user: User, changes: object = {}) =>
    JSON.stringify({
      ...{ ...configured, postgres: { ...configured.postgres, databases: ['app'] } },
      ...{ repositories: repositories(user), ...changes },
    })
  const fileFor = async (user: User, changes: object = {}): Promise<string> => {
    const file = join(base, `${user}.yaml`)
    await writeFile(file, yaml(user, changes), { mode: 0o600 })
    return file
  }

  const sidecarOf = (user: User) =>
    startSidecar(t, ground.cluster, {
      ...{ directory: base, databases: ['app'], yaml: { repositories: repositories(user) } },
      adjust: (config) => ({
        ...config,
        repositories: config.repositories.map((one) => ({
          ...one,
          ...{ retention: { ...one.retention, keepForSeconds: 0, keepAtLeast: 1 }, walKeepForSeconds: 0 },
        })),
      }),
    })

  // What was put before there was a lock can expire.
  const early = await sidecarOf('writer')
  t.match(await early.run('dump'), { state: 'succeeded' })
  await early.core.close()
  const lock = { ObjectLockEnabled: 'Enabled', Rule: { DefaultRetention: { Mode: 'GOVERNANCE', Days: 1 } } } as const
  await client.send(new PutObjectLockConfigurationCommand({ Bucket, ObjectLockConfiguration: lock }))

  await t.test('the writer backs up, ships, verifies and checks', async (t) => {
    const served = await serve(base, yaml('writer', { schedule: { verify: 'off' } }))
    t.teardown(() => served.end('SIGKILL'))
    const run = async (what: string, body: object) => {
      const { id } = (await (await served.request(`/api/admin/${what}`, body)).json()) as { id: string }
      return untilAnswer(what, async () => {
        const run = (await (await served.request(`/api/runs/${id}`)).json()) as { finishedAt: string; state: string }
        return run.finishedAt !== null && run
      })
    }
    for (const type of ['dump', 'full']) t.match(await run('backup', { type }), { state: 'succeeded' }, type)
    const segment = await finishSegment(ground.cluster)
    await untilAnswer('the segment is stored', async () =>
      (await as('observer').listObjectsV2({ Bucket, Prefix: 'prod/test/wal/' })).Contents?.some(({ Key = '' }) =>
        Key.includes(`/${segment}-`),
      ),
    )
    await untilAnswer('what Ceph 16 does where it keeps versions is told at the start', async () =>
      served.lines.some(({ msg }) => /does not honour If-None-Match/.test(String(msg))),
    )
    const posture = await untilAnswer('posture', async () => {
      const text = await (await served.request('/metrics')).text()
      const found = [...text.matchAll(/^lifeboat_repository_posture\{.*check="(\w+)".*\} (\d)$/gm)]
      return found.length > 0 && Object.fromEntries(found.map(([, check, value]) => [check, Number(value)]))
    })
    t.match(posture, {
      versioning: 1,
      object_lock: 1,
      lock_duration: 0,
      lifecycle: 1,
      old_versions: 0,
      public_access: 1,
    })
    t.match(posture, { tls: 1, clock: 1, abort_uploads: 0, public_access_block: 0 })
    t.notOk('encryption' in posture, 'what this server does not tell')
    await served.end()
    const checked = await cli(['check', '-c', await fileFor('writer')])
    t.match(checked.out, /ok +repository +safe: s3:.* can be written/)
    t.match(checked.out, /ok +repository +safe: these keys cannot delete a locked object/)
    t.match(checked.out, /ok +repository +safe: older versions are kept, Object Lock protects/)
    t.match(
      checked.out,
      /unknown +repository +safe: nobody can tell whether the server encrypts: the server does not tell/,
    )
    t.match(checked.out, /warning +repository +safe: locks last 1 d, and keepFor is 3 d: backups outlive their locks/)
    const again = new S3Storage({
      settings: { ...s3Settings(server.endpoint, Bucket), prefix: 'prod/', keys: keysOf('writer') },
    })
    t.same(await again.bucket.tryLockedDeletion('GOVERNANCE'), { outcome: 'held' })
    const { Versions: probes = [] } = await owner.listObjectVersions({ Bucket, Prefix: 'prod/.lifeboat-lock' })
    t.equal(probes.length, 1, 'one locked probe serves many checks')
  })

  await t.test('neither writer can lose what is locked', async (t) => {
    const manifest = (await owner.listObjectVersions({ Bucket, Prefix: 'prod/test/backups/' })).Versions?.findLast(
      ({ Key = '' }) => Key.endsWith('manifest.json'),
    )
    const version = { Bucket, Key: manifest?.Key ?? '', VersionId: manifest?.VersionId ?? '' }
    const soon = { Mode: 'GOVERNANCE', RetainUntilDate: new Date(Date.now() + 60_000) } as const
    const rule = { ID: 'x', Status: 'Enabled', Filter: { Prefix: '' }, Expiration: { Days: 1 } } as const
    for (const user of ['writer', 'keeper'] as const) {
      const s3 = as(user)
      for (const [what, work] of Object.entries({
        delete: () => s3.deleteObject(version),
        bypass: () => s3.deleteObject({ ...version, BypassGovernanceRetention: true }),
        shorten: () => s3.putObjectRetention({ ...version, Retention: soon, BypassGovernanceRetention: true }),
        lifecycle: () => s3.putBucketLifecycleConfiguration({ Bucket, LifecycleConfiguration: { Rules: [rule] } }),
        versioning: () => s3.putBucketVersioning({ Bucket, VersioningConfiguration: { Status: 'Suspended' } }),
        lock: () =>
          s3.putObjectLockConfiguration({ Bucket, ObjectLockConfiguration: { ObjectLockEnabled: 'Enabled' } }),
        policy: () => s3.deleteBucketPolicy({ Bucket }),
        elsewhere: () => s3.putObject({ Bucket, Key: 'other/k', Body: '' }),
      })) {
        t.equal(await nameOf(work()), 'AccessDenied', `${user}: ${what}`)
      }
    }
    t.ok((await as('writer').headObject(version)).ObjectLockRetainUntilDate)
  })

  await t.test('expiry that is not permitted is told, and harms nothing', async (t) => {
    const writer = await sidecarOf('writer')
    const before = await writer.manifests()
    const refused = await writer.run('expire')
    t.match(refused, { state: 'failed', failure: { code: 'storage-credentials', hint: /s3:DeleteObject/ } })
    t.same(await writer.manifests(), before)
    t.same(await writer.leftovers(), [], 'no claim stays')
    const [item] = refused.items
    t.match(item, { outcome: 'failed', failure: { code: 'storage-credentials' } })
    const still = await writer.run('verify', { backup: item?.backupId ?? '', level: 'artifact' })
    t.match(still, { state: 'succeeded' }, 'what was to go can be used at once')
    await writer.core.close()

    const keeper = await sidecarOf('keeper')
    t.match(await keeper.run('expire'), { state: 'succeeded' })
    t.equal((await keeper.manifests()).length, before.length - 1, 'other keys can')
    await keeper.core.close()
    const versions = await owner.listObjectVersions({ Bucket, Prefix: 'prod/test/backups/' })
    const kept = new Set(versions.Versions?.map(({ Key }) => Key).filter((key) => key?.endsWith('manifest.json')))
    t.equal(kept.size, before.length, 'and even so, what they removed is there as an older version')
  })

  await t.test('the restorer only reads', async (t) => {
    const file = await fileFor('restorer', { stateDir: join(base, 'restorer-state') })
    const restored = await cli(['restore', '-c', file, '--database', 'app', '--to', 'rightly'])
    t.equal(restored.code, 0, restored.err)
    t.match(await ground.cluster.sql('select count(*)::int as rows from t', 'rightly'), [{ rows: 5000 }])
    t.equal(await nameOf(as('restorer').putObject({ Bucket, Key: 'prod/k', Body: '' })), 'AccessDenied')
    t.equal(await nameOf(as('restorer').deleteObject({ Bucket, Key: 'prod/test/repository.json' })), 'AccessDenied')
    const checked = await cli(['check', '-c', file])
    t.match(checked.out, /error +repository .*\n +HINT: let the policy of these keys allow s3:PutObject on the objects/)
    t.match(checked.out, /unknown .*may not read it \(s3:GetBucketVersioning\)/)
  })

  await t.test('the observer sees what there is, and nothing that is in it', async (t) => {
    const listed = await cli(['list', '-c', await fileFor('observer', { stateDir: join(base, 'observer-state') })])
    t.match(listed.out, /dump/)
    const { Contents: objects = [] } = await as('observer').listObjectsV2({ Bucket, Prefix: 'prod/test/' })
    for (const end of ['/dump.tar', '/base.tar.zst', '.zst']) {
      const Key = objects.find((one) => one.Key?.endsWith(end))?.Key ?? ''
      t.equal(await nameOf(as('observer').getObject({ Bucket, Key })), 'AccessDenied', Key)
    }
    t.equal(await nameOf(as('observer').putObject({ Bucket, Key: 'prod/k', Body: '' })), 'AccessDenied')
  })
}

/** The name of the failure; empty for none. */
async function nameOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => '',
    (error: unknown) => (error instanceof Error ? error.name : String(error)),
  )
}
