import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { startBenchCluster } from './cluster.ts'
import { benchTokenHash, startSidecar } from './sidecar.ts'
import { type Figure, mebibytes } from './table.ts'

const port = 21_187

/** Resident memory of the sidecar over a backup and a whole verification, for a small and a large database. */
export async function benchMemory(
  base: string,
  scales: readonly [small: number, large: number],
): Promise<readonly Figure[]> {
  const peaks: { readonly size: number; readonly peak: number }[] = []
  for (const scale of scales) {
    const directory = await mkdtemp(join(base, 'memory-'))
    const cluster = await startBenchCluster(directory, scale)
    const sidecar = await startSidecar(directory, cluster.configText({ port, tokenHash: benchTokenHash }), port)
    try {
      await sidecar.run('backup', {})
      await sidecar.run('verify', { level: 'data' })
      peaks.push({ size: cluster.databaseBytes, peak: await sidecar.peakBytes() })
    } finally {
      await sidecar.stop()
      await cluster.remove()
    }
  }
  const [small, large] = peaks as [(typeof peaks)[number], (typeof peaks)[number]]
  const ratio = large.peak / small.peak
  return [
    ...peaks.map(({ size, peak }) => ({
      what: `most resident memory over backup and verification of ${mebibytes(size)}`,
      measured: mebibytes(peak),
      goal: '150 MiB',
      met: peak <= 150 * 1_048_576,
    })),
    { what: 'large against small database', measured: `${ratio.toFixed(2)} times`, goal: '1.20', met: ratio <= 1.2 },
  ]
}
