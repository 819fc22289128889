import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { cpus, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { benchAlerting } from './alerting.ts'
import { benchBase } from './base.ts'
import { benchBurst } from './burst.ts'
import { benchCatalog } from './catalog.ts'
import { benchDashboards } from './dashboards.ts'
import { benchExternal } from './external.ts'
import { benchFetch } from './fetch.ts'
import { benchJobs } from './jobs.ts'
import { benchMemory } from './memory.ts'
import { benchRestore } from './restore.ts'
import { benchRetention } from './retention.ts'
import { benchRules } from './rules.ts'
import { benchS3 } from './s3.ts'
import { benchShip } from './ship.ts'
import { benchStored } from './stored.ts'
import { type Figure, figuresTable, mebibytes } from './table.ts'
import { benchWal } from './wal.ts'
import { benchWalArchive } from './wal-archive.ts'
import { benchWatch } from './watch.ts'

/**
 * Measures the figures of docs/benchmarks.md: `npm run bench` (about twenty minutes), `npm run bench -- --only catalog`.
 * Ratios are taken in one run against the bare programs, since machines are noisy.
 */
const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    scale: { type: 'string', default: '110' },
    bytes: { type: 'string', default: '2e9' },
    backups: { type: 'string', default: '10000' },
  },
})
const base = await mkdtemp(join(tmpdir(), 'lifeboat-bench-'))
await chmod(base, 0o711) // servers of other OS users live in it
const parts: Readonly<Record<string, () => Promise<readonly Figure[]>>> = {
  catalog: () => benchCatalog(base, Number(values.backups)),
  jobs: () => benchJobs(base, Number(values.scale)),
  base: () => benchBase(base, Number(values.scale) * 1.5),
  restore: () => benchRestore(base, Number(values.scale) * 1.5),
  external: () => benchExternal(base),
  watch: () => benchWatch(base, 50_000),
  wal: () => benchWal(base),
  'wal-archive': () => benchWalArchive(base, 1_000_000),
  burst: () => benchBurst(base),
  stored: () => benchStored(base, 1_000_000),
  ship: () => benchShip(base),
  fetch: () => benchFetch(base),
  s3: () => benchS3(Number(values.bytes)),
  memory: () => benchMemory(base, [10, 200]),
  retention: async () => benchRetention(),
  rules: () => benchRules(base, 200),
  alerting: () => benchAlerting(base),
  dashboards: () => benchDashboards(base, 20, 30),
}
// What is measured waits on a clock that keeps no process alive: the sidecar has its server for that.
const alive = setInterval(() => {}, 60_000)
try {
  console.log(
    `${cpus().length} × ${cpus()[0]?.model.trim()}, ${mebibytes(totalmem())}, Node ${process.version}, ${new Date().toISOString().slice(0, 10)}\n`,
  )
  const figures: Figure[] = []
  for (const [name, run] of Object.entries(parts)) {
    if (values.only === undefined || values.only === name) figures.push(...(await run()))
  }
  console.log(figuresTable(figures))
} finally {
  clearInterval(alive)
  await rm(base, { recursive: true, force: true })
}
