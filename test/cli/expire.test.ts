import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { readFile, truncate, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execPath } from 'node:process'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { cli } from '../support/cli.ts'
import { mainFile } from '../support/sidecar.ts'
import { storeBackup, storedCluster, storeProof } from '../support/stored.ts'

const dayMs = 86_400_000
const evil = 'evil\u001b[31m\nname\u202e'
const daysAgo = (days: number) => new Date(systemClock.now().getTime() - days * dayMs)

/** A configuration with two repositories, and commands that use it. */
async function configured(t: Test) {
  const directory = t.testdir({})
  const config = join(directory, 'lifeboat.yaml')
  const roots = { one: join(directory, 'one'), two: join(directory, 'two') }
  await writeFile(
    config,
    JSON.stringify({
      cluster: storedCluster,
      stateDir: join(directory, 'state'),
      postgres: { host: join(directory, 'nowhere') },
      repositories: Object.entries(roots).map(([name, root]) => ({
        name,
        url: `file://${root}`,
        retention: { keepFor: '10d', keepAtLeast: 1 },
      })),
    }),
  )
  let count = 0
  const dump = async (days: number, root = roots.one, database = 'app') => {
    count += 1
    const manifest = await storeBackup(root, {
      startedAt: daysAgo(days),
      database,
      random: count.toString(16).padStart(6, '0'),
    })
    return manifest.backupId
  }
  const lifeboat = (...argv: string[]) => cli([argv[0] ?? '', '-c', config, ...argv.slice(1)])
  const backups = (root = roots.one) => readdirSync(join(root, storedCluster, 'backups')).sort()
  return { directory, config, roots, dump, lifeboat, backups }
}

t.test('a dry run explains every backup, and leaves nothing behind', async (t) => {
  const { directory, roots, dump, lifeboat, backups } = await configured(t)
  const [young, last, proven, old] = [await dump(1), await dump(20, roots.one, evil), await dump(30), await dump(40)]
  await storeProof(roots.one, { backupId: proven, checksum: await checksumOf(roots.one, proven) }, daysAgo(29))
  await dump(3, roots.two)
  const { code, out, err } = await lifeboat('expire', '--dry-run')
  t.same([code, err], [0, ''])
  const lines = out.split('\n')
  t.equal(lines[0], 'one: 4 backups, 1 would go, 3 stay')
  t.match(lines[1], /^ {2}BACKUP +DATABASE +FINISHED +DECISION +WHY$/)
  t.match(
    lines[2],
    new RegExp(`^  ${young} +app +\\S+ \\S+Z +stays +it is the newest usable backup of its database; it is`),
  )
  t.match(lines[3], `  ${last}  "evil\\u001b[31m\\nname\\u202e"`)
  t.match(
    lines[4],
    new RegExp(`^  ${proven} .* stays +it is the newest backup of its database that a restore has proven$`),
  )
  t.match(lines[5], new RegExp(`^  ${old} .* goes +it is older than keepFor, and no other rule keeps it$`))
  t.equal(lines[6], 'two: 1 backups, 0 would go, 1 stay')
  t.notOk(out.includes('\u001b') || out.includes('\u202e'))
  t.notOk(existsSync(join(directory, 'state')))
  t.equal(backups().length, 4)
  const json = JSON.parse((await lifeboat('expire', '--dry-run', '--json', '-r', 'one')).out)
  t.match(json, [{ repository: 'one', blocked: null, backups: { length: 4 } }])
  t.match(
    json[0].backups.find((one: { id: string }) => one.id === old),
    { keep: false, reasons: ['expired'], until: null, hold: null },
  )
  t.match((await lifeboat('list', '-d', 'app', '-r', 'one')).out, new RegExp(`^one +${old} .* goes +never$`, 'm'))
})

t.test('a dry run sees files that are missing, and what other repositories do not tell', async (t) => {
  const { roots, dump, lifeboat } = await configured(t)
  const [damaged, good] = [await dump(4), await dump(11)]
  await dump(1, roots.two)
  await unlink(join(roots.one, storedCluster, 'backups', damaged, 'dump.tar'))
  const { code, out, err } = await lifeboat('expire', '--dry-run', '-r', 'one')
  t.same([code, err], [0, ''])
  t.match(out, /^one: 2 backups, 0 would go, 2 stay$/m)
  t.match(out, new RegExp(`^  ${good} .* it is the newest usable backup of its database; `, 'm'))
  t.match(out, new RegExp(`^  ${damaged} .* no usable backup .* is newer; files of it are missing, truncated`, 'm'))
})

t.test('expire, hold and release', async (t) => {
  const { roots, dump, lifeboat, backups } = await configured(t)
  const [young, held, old] = [await dump(1), await dump(30), await dump(40)]
  await dump(1, roots.two)
  t.match(await lifeboat('hold', held, '--reason', 'audit\n\u001b[31m', '--until', '90d'), {
    code: 0,
    out: new RegExp(`^${held} is held in one until \\d{4}-`),
    err: '',
  })
  const preview = await lifeboat('expire', '-n', '-r', 'one')
  t.match(preview.out, /stays until \S+ \S+Z +it is held \(audit \?\[31m\)/)
  t.match((await lifeboat('list', '-r', 'one', '--json')).out, /"held": true/)
  t.match(await lifeboat('expire'), { code: 0, out: `removed ${old} of app in one\n`, err: '' })
  t.same(backups(), [young, held].sort())
  t.match(await lifeboat('expire'), { code: 0, out: 'nothing had to go\n', err: '' })
  t.match(await lifeboat('hold', held, '--release', '-r', 'one'), {
    code: 0,
    out: `${held} is not held in one any more\n`,
  })
  t.match(JSON.parse((await lifeboat('hold', held, '--json')).out), [
    { repository: 'one', backup: held, held: true, until: null },
  ])
  t.match((await lifeboat('hold', held, '--release')).code, 0)
  t.match(await lifeboat('hold', held, '--release'), { code: 2, err: /there is no backup .*, or it is not held/ })
  t.match(await lifeboat('hold', old), { code: 2, err: /there is no backup/ })
  t.match(await lifeboat('hold', held, '-r', 'three'), { code: 2, err: /no repository "three"/ })
  const run = JSON.parse((await lifeboat('expire', '--json')).out)
  t.match(run, { job: 'expire', state: 'succeeded', items: [{ backupId: held, outcome: 'succeeded' }] })
})

t.test('what blocks it is told, with what to do', async (t) => {
  const { roots, dump, lifeboat } = await configured(t)
  const [bad] = [await dump(1), await dump(30), await dump(1, roots.two)]
  await writeFile(join(roots.one, storedCluster, 'backups', bad, 'manifest.json'), 'torn')
  const preview = await lifeboat('expire', '--dry-run')
  t.equal(preview.code, 6)
  t.match(
    preview.out,
    new RegExp(`^one: nothing expires: manifests cannot be read: ${bad}\nHINT: put a good manifest\\.json`, 'm'),
  )
  const run = await lifeboat('expire')
  t.equal(run.code, 6)
  t.match(run.err, /nothing expires in one: manifests cannot be read: .*\nHINT: /)
  t.match((await lifeboat('list', '-r', 'one')).out, / blocked +never/)
})

t.test('a clock that is really set', { timeout: 120_000 }, async (t) => {
  const { roots, config, dump, backups } = await configured(t)
  await Promise.all([dump(1), dump(5), dump(1, roots.two)])
  /** The program as it is, by a clock that goes wrong by so much. */
  const at = async (offset: string, ...argv: string[]) => {
    const child = spawn('faketime', ['-f', offset, execPath, mainFile, 'expire', '-c', config, ...argv], {
      stdio: ['ignore', 'pipe', 'pipe'],
      // Timers are to go on as they do when somebody sets the clock.
      env: { ...process.env, DONT_FAKE_MONOTONIC: '1', NODE_OPTIONS: '' },
    })
    const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
    return { code: Number(code), out, err }
  }
  t.match(await at('+0'), { code: 0, out: 'nothing had to go\n' })
  t.match(await at('-1h'), { code: 6, err: /the clock went back: it is .*\nHINT: .*--confirm-clock/ })
  t.match(await at('+365d'), { code: 6, err: /the clock went forward by 36\d days that nothing bears witness to/ })
  t.match(await at('+365d', '--dry-run'), { code: 6, out: /2 backups, 0 would go, 2 stay\none: nothing expires/ })
  t.equal(backups().length, 2)
  t.match(await at('+365d', '--dry-run', '--confirm-clock'), { code: 0, out: /2 backups, 1 would go, 1 stay/ })
  t.match(await at('+0'), { code: 0 }, 'right again, and nothing is lost')
  t.match(await at('+365d', '--confirm-clock'), { code: 0, out: /^removed \S+ of app in one\n$/ })
  t.equal(backups().length, 1)
})

async function checksumOf(root: string, id: string): Promise<string> {
  const manifest = await readFile(join(root, storedCluster, 'backups', id, 'manifest.json'), 'utf8')
  return (JSON.parse(manifest) as { checksum: string }).checksum
}

t.test('a listing and a dry run tell of files that are missing or torn', async (t) => {
  const { roots, dump, lifeboat } = await configured(t)
  const [whole, torn] = [await dump(20), await dump(1)]
  const file = join(roots.one, storedCluster, 'backups', torn, 'dump.tar')
  await truncate(file, 7)
  const { code, out } = await lifeboat('list')
  t.equal(code, 0)
  t.match(out, new RegExp(`${torn} .* invalid: dump\\.tar of backup ${torn} has 7 bytes, not the 1000 of its manifest`))
  t.match(out, new RegExp(`${whole} +app`))
  t.match(
    (await lifeboat('expire', '--dry-run')).out,
    new RegExp(`${torn} .* files of it are missing, truncated or replaced`),
  )
  await truncate(file, 1_000)
  t.notMatch((await lifeboat('list')).out, /invalid/)
})
