import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { type FileHandle, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { CreateBucketCommand, DeleteObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { runProgram } from '../../src/postgres/programs.ts'
import { freePort } from '../support/postgres.ts'
import { testKeys } from '../support/s3.ts'
import { type Figure, mebibytes, median } from './table.ts'

const rounds = 3
const partMebibytes = 20
const parallel = 4
const ticksPerSecond = 100
const mebi = 1024 * 1024

/** How a transfer went. */
interface Took {
  readonly seconds: number
  /** Of the process, user and system. */
  readonly cpuSeconds: number
  readonly peakBytes: number
}

type What = 'put' | 'get'

/** Something that puts a file into the bucket and gets it back, in a process of its own. */
interface Tool {
  readonly name: string
  readonly commands: Readonly<Record<What, readonly string[]>>
  readonly env: Readonly<Record<string, string>>
}

/**
 * An object of so many bytes put into Ceph's gateway on this machine and got back, from and to memory (/dev/shm): Lifeboat, `rclone` and `s3cmd`
 * in turn, with the same size of parts and, where they can (`s3cmd` cannot), as many at a time. The median of the rounds counts.
 */
export async function benchS3(bytes: number): Promise<readonly Figure[]> {
  const directory = await mkdtemp(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'lifeboat-bench-s3-'))
  const ceph = join(import.meta.dirname, '..', 'support', 'ceph.sh')
  const place = join(directory, 'ceph')
  try {
    const [port, monitorPort] = [await freePort(), await freePort()]
    await runProgram({
      program: 'bash',
      args: [ceph, place, String(port), String(monitorPort)],
      env: { CEPH_MEMORY_BYTES: String(4 * bytes + 2 ** 30) },
    })
    return await compare(directory, place, `http://127.0.0.1:${port}`, bytes)
  } finally {
    await runProgram({ program: 'bash', args: [ceph, place, 'stop'] })
    await rm(directory, { recursive: true, force: true })
  }
}

async function compare(directory: string, ceph: string, endpoint: string, bytes: number): Promise<readonly Figure[]> {
  const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials: testKeys })
  while (!(await fetch(endpoint).catch(() => null))?.ok) await delay(50)
  await client.send(new CreateBucketCommand({ Bucket: 'bench' }))
  const [source, target] = [join(directory, 'source'), join(directory, 'target')]
  const sha256 = await fill(source, bytes)
  const tools = await toolsFor(directory, endpoint, { source, target })
  const took = new Map<string, Took[]>()
  const note = (name: string, what: What, one: Took): void => {
    took.set(`${name} ${what}`, [...(took.get(`${name} ${what}`) ?? []), one])
    const rate = bytes / mebi / one.seconds
    console.log(
      `${name} ${what}: ${rate.toFixed(0)} MiB/s, ${((one.cpuSeconds / bytes) * 1e9).toFixed(2)} s of CPU a GB, ${mebibytes(one.peakBytes)}`,
    )
  }
  for (let round = 0; round < rounds; round += 1) {
    // Whoever is first in a round is not so in the next: the server may be slower after much has been removed.
    for (const { name, commands, env } of [
      ...tools.slice(round % tools.length),
      ...tools.slice(0, round % tools.length),
    ]) {
      note(name, 'put', await run(commands.put, env))
      note(name, 'get', await run(commands.get, env))
      if ((await sha256Of(target)) !== sha256) throw new Error(`${name} gave back something else`)
      await rm(target)
      await client.send(new DeleteObjectCommand({ Bucket: 'bench', Key: 'artifact' }))
      await runProgram({
        program: 'radosgw-admin',
        args: ['gc', 'process', '--include-all'],
        env: { CEPH_CONF: join(ceph, 'ceph.conf') },
      })
    }
  }
  client.destroy()
  return figures(tools, took, bytes)
}

function figures(tools: readonly Tool[], took: ReadonlyMap<string, readonly Took[]>, bytes: number): Figure[] {
  const all = (name: string, what: What) => took.get(`${name} ${what}`) ?? []
  const secondsOf = (name: string, what: What) => median(all(name, what).map(({ seconds }) => seconds))
  const peakOf = (name: string, what: What) => Math.max(...all(name, what).map(({ peakBytes }) => peakBytes))
  const cpuOf = (name: string, what: What) =>
    (median(all(name, what).map(({ cpuSeconds }) => cpuSeconds)) / bytes) * 1e9
  const others = tools.slice(1).map(({ name }) => name)
  const lines: Figure[] = []
  for (const [what, words, goal] of [
    ['put', 'upload', 0.9],
    ['get', 'download', 0.85],
  ] as const) {
    const ours = secondsOf('lifeboat', what)
    const best = Math.min(...others.map((name) => secondsOf(name, what)))
    const told = others
      .map(
        (name) =>
          `${name} ${(bytes / mebi / secondsOf(name, what)).toFixed(0)} MiB/s, ${cpuOf(name, what).toFixed(1)} s of CPU a GB, ${mebibytes(peakOf(name, what))}`,
      )
      .join('; ')
    const ratio = best / ours
    lines.push({
      what: `${words} of ${mebibytes(bytes)} (${(bytes / mebi / ours).toFixed(0)} MiB/s, ${cpuOf('lifeboat', what).toFixed(1)} s of CPU a GB) against the faster of ${told || 'none, neither is installed'}`,
      measured: `${ratio.toFixed(2)} times`,
      goal: `at least ${goal}`,
      met: ratio >= goal,
    })
    const [peak, most] = [peakOf('lifeboat', what), parallel * partMebibytes * mebi + 150e6]
    lines.push({
      what: `most resident memory over it, ${parallel} parts of ${partMebibytes} MiB at a time`,
      measured: mebibytes(peak),
      goal: mebibytes(most),
      met: peak <= most,
    })
  }
  return lines
}

async function toolsFor(
  directory: string,
  endpoint: string,
  { source, target }: { source: string; target: string },
): Promise<readonly Tool[]> {
  const child = join(import.meta.dirname, 's3-child.ts')
  const flags = ['--max-semi-space-size=2', '--max-old-space-size=128', '--optimize-for-size', '--no-warnings']
  const ours = (what: What, file: string) => [
    ...[process.execPath, ...flags, child, what, endpoint, 'bench', 'artifact', file],
    ...[String(partMebibytes * mebi), String(parallel)],
  ]
  const part = `${partMebibytes}M`
  const rclone = (from: string, to: string) => [
    ...['rclone', 'copyto', from, to, `--s3-chunk-size=${part}`, `--s3-upload-concurrency=${parallel}`],
    ...[`--multi-thread-streams=${parallel}`, '--multi-thread-cutoff=1M', '--ignore-times'],
  ]
  const file = join(directory, 's3cmd.conf')
  const host = new URL(endpoint).host
  await writeFile(
    file,
    `[default]\naccess_key = ${testKeys.accessKeyId}\nsecret_key = ${testKeys.secretAccessKey}\nhost_base = ${host}\nhost_bucket = ${host}\nuse_https = False\n`,
  )
  const s3cmd = ['s3cmd', `--config=${file}`, '--no-progress', '--force']
  const tools: Tool[] = [
    {
      name: 'lifeboat',
      commands: { put: ours('put', source), get: ours('get', target) },
      env: { MALLOC_ARENA_MAX: '1' },
    },
    {
      name: 'rclone',
      commands: { put: rclone(source, 'bench:bench/artifact'), get: rclone('bench:bench/artifact', target) },
      env: {
        ...{ RCLONE_CONFIG: join(directory, 'rclone.conf'), RCLONE_CONFIG_BENCH_TYPE: 's3' },
        ...{ RCLONE_CONFIG_BENCH_PROVIDER: 'Ceph', RCLONE_CONFIG_BENCH_ENDPOINT: endpoint },
        RCLONE_CONFIG_BENCH_ACCESS_KEY_ID: testKeys.accessKeyId,
        RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY: testKeys.secretAccessKey,
      },
    },
    {
      name: 's3cmd',
      commands: {
        put: [...s3cmd, `--multipart-chunk-size-mb=${partMebibytes}`, 'put', source, 's3://bench/artifact'],
        get: [...s3cmd, 'get', 's3://bench/artifact', target],
      },
      env: {},
    },
  ]
  return tools.filter(({ name }) => name === 'lifeboat' || existsSync(join('/usr/bin', name)))
}

/** Runs a program to its end, and looks all the while at what it uses. */
async function run([program = '', ...args]: readonly string[], env: Readonly<Record<string, string>>): Promise<Took> {
  const { AWS_CA_BUNDLE: _, ...rest } = process.env // rclone cannot use it
  const started = performance.now()
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], env: { ...rest, ...env } })
  const over = new Promise<number | null>((resolve, reject) => {
    child.once('exit', resolve)
    child.once('error', reject)
  })
  const said = text(child.stdout)
  let ended = false
  over.then(
    () => {
      ended = true
    },
    () => {},
  )
  let [peakBytes, cpuSeconds] = [0, 0]
  while (!ended) {
    const [status, stat] = await Promise.all(
      ['status', 'stat'].map((name) => readFile(`/proc/${child.pid}/${name}`, 'utf8').catch(() => '')),
    )
    peakBytes = Math.max(peakBytes, Number(/^VmHWM:\s+(\d+)/m.exec(status ?? '')?.[1] ?? 0) * 1024)
    // utime and stime are the 12th and 13th field from the state on.
    const fields = (stat ?? '').slice((stat ?? '').lastIndexOf(')') + 2).split(' ')
    cpuSeconds = Math.max(cpuSeconds, (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / ticksPerSecond)
    await Promise.race([delay(20), over])
  }
  const code = await over
  if (code !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${code}`)
  const own = /"seconds":([\d.]+)/.exec(await said)?.[1]
  return { seconds: own ? Number(own) : (performance.now() - started) / 1000, cpuSeconds, peakBytes }
}

/** Bytes that nothing can compress; gives their SHA-256. */
async function fill(path: string, bytes: number): Promise<string> {
  const file: FileHandle = await open(path, 'w')
  const [hash, chunk] = [createHash('sha256'), randomBytes(16 * mebi)]
  for (let left = bytes; left > 0; left -= chunk.length) {
    chunk.writeDoubleLE(left)
    const piece = chunk.subarray(0, Math.min(left, chunk.length))
    hash.update(piece)
    await file.write(piece)
  }
  await file.close()
  return hash.digest('hex')
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256')
  const file = await open(path)
  for await (const chunk of file.createReadStream({ highWaterMark: mebi })) hash.update(chunk as Buffer)
  return hash.digest('hex')
}
