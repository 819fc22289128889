import { writeFile } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { manifestKey } from '../../src/repository/layout.ts'
import { serializeManifest } from '../../src/repository/manifest.ts'
import { cli } from '../support/cli.ts'
import { fakeS3 } from '../support/fake-s3.ts'
import { testKeys } from '../support/s3.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { dumpManifest, storedCluster, storeManifest } from '../support/stored.ts'

const keys = { AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: 'secret' }

/** The port of a server that takes every connection, and never says anything. */
async function muteServer(t: Test): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => void sockets.add(socket.on('error', () => {})))
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('it has no port')
  return address.port
}

// Every request would be tried for more than a minute and a half.
t.test('a bucket that hangs holds up no command', { timeout: 60_000 }, async (t) => {
  const directory = await scratchDirectory(t)
  Object.assign(process.env, keys)
  t.teardown(() => Object.keys(keys).map((name) => delete process.env[name]))
  const root = join(directory, 'local')
  const startedAt = new Date(Date.now() - 3_600_000)
  await storeManifest(root, { startedAt })
  const file = join(directory, 'lifeboat.yaml')
  const endpoint = `http://127.0.0.1:${await muteServer(t)}`
  const prices = { name: 'disk', asOf: '2026-02-01', source: 'made up', classes: [{ class: 'STANDARD', storage: 1 }] }
  await writeFile(
    file,
    JSON.stringify({
      ...{ cluster: storedCluster, stateDir: join(directory, 'state'), observe: { timeout: '5s' } },
      costs: { prices: [prices] },
      postgres: { host: join(directory, 'nowhere') },
      watch: [{ name: 'elsewhere', url: 's3://other', endpoint, pattern: '{database}_{timestamp}{ext}' }],
      repositories: [
        { name: 'local', url: `file://${root}`, prices: 'disk' },
        { name: 'offsite', url: 's3://bucket/prefix', endpoint, prices: 'disk' },
      ],
    }),
  )
  const run = async ([command = '', ...more]: readonly string[]) => {
    const { code, out, err } = await cli([command, ...more, '--config', file])
    return { code, all: `${out}${err}`, out }
  }
  const words = /(?:repository )?offsite: it has not answered for 5 s/
  const commands = [
    'list',
    'report --cost',
    'wal status',
    'wal gaps',
    'expire --dry-run',
    'plan',
    'check',
    'list -r offsite',
    'wal verify',
  ]
  t.match(await run(['list', '--repository', 'local']), { code: 0, out: /^local .*-dump-/m })
  const all = await Promise.all(commands.map((one) => run(one.split(' '))))
  for (const [index, { code, all: text }] of all.entries()) {
    const command = commands[index] ?? ''
    t.match(text, words, command)
    t.not(code, 0, command)
  }
  const [list, report, , , , , check] = all
  t.match(list?.out, /^local .*-dump-/m, 'the other one is told of')
  t.match(report?.out, /^local: by the prices/m)
  t.match(check?.out, /^ok +repository +local: .* can be written and read/m)
  t.match(check?.out, /^error +watch +elsewhere: it has not been listed within 5 s/m)
  t.match(check?.out, /^error +repository +offsite: it has not answered/m)
})

t.test('nor does one that is alone', { timeout: 60_000 }, async (t) => {
  const directory = await scratchDirectory(t)
  Object.assign(process.env, keys)
  t.teardown(() => Object.keys(keys).map((name) => delete process.env[name]))
  const endpoint = `http://127.0.0.1:${await muteServer(t)}`
  const words = /repository offsite: it has not answered for 2 s\nHINT: see whether its disk or server hangs/
  const commands = ['wal verify', 'backup', 'verify', 'restore app', 'expire']
  const run = async (command: string, index: number) => {
    const file = join(directory, `${index}.yaml`)
    await writeFile(
      file,
      JSON.stringify({
        ...{ cluster: storedCluster, stateDir: join(directory, `${index}`), observe: { timeout: '2s' } },
        ...{ postgres: { host: join(directory, 'nowhere') }, runner: { retries: 0 } },
        repositories: [{ name: 'offsite', url: 's3://bucket/prefix', endpoint }],
      }),
    )
    const { code, err } = await cli([...command.split(' '), '--config', file])
    t.match(err, words, command)
    t.not(code, 0, command)
  }
  await Promise.all(commands.map(run))
})

t.test('list tells what is encrypted, and what has gone from a bucket', async (t) => {
  const directory = await scratchDirectory(t)
  for (const [name, value] of Object.entries({ key: testKeys.accessKeyId, secret: testKeys.secretAccessKey }))
    await writeFile(join(directory, name), value, { mode: 0o600 })
  const server = await fakeS3(t, () => new Date())
  const { manifest } = dumpManifest({ startedAt: new Date(Date.now() - 3_600_000) })
  const { backupId } = manifest
  const { checksum: _, formatVersion: __, artifacts: plain, ...body } = manifest
  const artifacts = plain.flatMap((one) =>
    one.name === 'RESTORE.md' ? [one] : [{ ...one, name: `${one.name}.age`, plain: { ...one.plain, sha256: null } }],
  )
  const keyOf = (name: string) => manifestKey(storedCluster, backupId).replace('manifest.json', name)
  for (const { name, stored } of artifacts) server.put(keyOf(name), Buffer.alloc(stored.bytes))
  server.put(keyOf('manifest.json'), serializeManifest(body, artifacts).text)
  const config = join(directory, 'lifeboat.yaml')
  const { endpoint } = server.settings
  const files = { accessKeyIdFile: join(directory, 'key'), secretAccessKeyFile: join(directory, 'secret') }
  const repositories = [{ name: 'offsite', url: 's3://bucket', endpoint, ...files }]
  await writeFile(config, JSON.stringify({ cluster: storedCluster, stateDir: join(directory, 'state'), repositories }))
  const list = () => cli(['list', '--config', config])
  t.match(await list(), { code: 0, out: new RegExp(`^offsite +${backupId} .* never, encrypted$`, 'm') })
  server.remove(keyOf('dump.tar.age'))
  t.match(await list(), {
    out: new RegExp(`^offsite +${backupId} +invalid: dump.tar.age of backup .* is missing`, 'm'),
  })
})
