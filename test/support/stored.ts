import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { backupId, type Manifest } from '../../src/domain/backup.ts'
import type { Proof, Verdict } from '../../src/domain/proof.ts'
import { manifestKey, proofKey } from '../../src/repository/layout.ts'
import { serializeManifest } from '../../src/repository/manifest.ts'
import { serializeProof } from '../../src/repository/proof.ts'

export const storedCluster = 'spavix'

export interface StoredBackup {
  readonly startedAt: Date
  readonly database?: string
  readonly systemIdentifier?: string
  /** Six hex digits that make the id unique. */
  readonly random?: string
  readonly bytes?: number
}

/** The manifest of a dump, as a repository writes it. */
export function dumpManifest(options: StoredBackup): { readonly text: string; readonly manifest: Manifest } {
  const { startedAt, database = 'app', systemIdentifier = '7500000000000000001', random = 'abcdef' } = options
  const digest = { bytes: options.bytes ?? 1_000, sha256: 'a'.repeat(64) }
  const stop = new Date(startedAt.getTime() + 60_000)
  return serializeManifest(
    {
      backupId: backupId(startedAt, 'dump', random),
      type: 'dump',
      cluster: storedCluster,
      systemIdentifier,
      serverVersion: '15.18 (Debian 15.18-0+deb12u1)',
      serverVersionNum: 150018,
      timeline: 1,
      start: { lsn: '0/1949F90', time: startedAt.toISOString() },
      stop: { lsn: '0/1949FC8', time: stop.toISOString() },
      parent: null,
      database: { name: database, oid: 16_384, sourceBytes: 8_000_000 },
      producer: {
        lifeboat: '0.1.0',
        programs: { pg_dump: '15.18', tar: '1.34' },
        options: ['--format=directory', '--jobs=2'],
      },
      warnings: [],
      durationSeconds: 60,
    },
    ['dump.tar', 'fingerprint.json', 'globals.sql', 'RESTORE.md'].map((name) => ({
      name,
      plain: digest,
      stored: digest,
    })),
  )
}

/**
 * Writes the manifest of a dump as a repository would, without its artifacts and without fsync: a scan of a directory does not
 * look at them, and ten thousand are written in a few seconds.
 */
export async function storeManifest(root: string, options: StoredBackup): Promise<Manifest> {
  const { text, manifest } = dumpManifest(options)
  await store(root, manifestKey(storedCluster, manifest.backupId), text)
  return manifest
}

/** Writes a whole dump: its artifacts are as long as its manifest says. */
export async function storeBackup(root: string, options: StoredBackup): Promise<Manifest> {
  const manifest = await storeManifest(root, options)
  for (const { name, stored } of manifest.artifacts)
    await store(root, `${storedCluster}/backups/${manifest.backupId}/${name}`, 'x'.repeat(stored.bytes))
  return manifest
}

/** The proof of a verification down to the restore that ended at `finishedAt`. `hashed`: identities of what was read, by name. */
export function proofText(
  of: Pick<Manifest, 'backupId' | 'checksum' | 'artifacts'>,
  finishedAt: Date,
  { verdict = 'pass', hashed = {} }: { readonly verdict?: Verdict; readonly hashed?: Record<string, string> } = {},
): string {
  const result = (own: Verdict) => ({
    verdict: own,
    checks: [{ name: 'restore', verdict: own, detail: 'looked at' }],
    finishedAt: finishedAt.toISOString(),
    durationSeconds: 2.5,
    ...(own === 'pass' ? {} : { cause: 'some-cause' }),
  })
  const body: Omit<Proof, 'checksum' | 'formatVersion'> = {
    backupId: of.backupId,
    manifestChecksum: of.checksum,
    startedAt: new Date(finishedAt.getTime() - 60_000).toISOString(),
    finishedAt: finishedAt.toISOString(),
    level: 'restore',
    levels: { artifact: result('pass'), restore: result(verdict) },
    hashed: of.artifacts.flatMap(({ name, stored }) => {
      const version = hashed[name]
      return version === undefined ? [] : [{ name, version, stored, hashedAt: finishedAt.toISOString() }]
    }),
    phases: { restore: 2 },
    serverVersion: '15.18',
    lifeboat: '0.1.0',
  }
  return serializeProof(body).text
}

/** Writes such a proof. Returns its key. */
export async function storeProof(
  root: string,
  of: Pick<Manifest, 'backupId' | 'checksum'>,
  finishedAt: Date,
  verdict: Verdict = 'pass',
): Promise<string> {
  const key = proofKey(storedCluster, finishedAt, of.backupId)
  await store(root, key, proofText({ ...of, artifacts: [] }, finishedAt, { verdict }))
  return key
}

/** Writes a file below the root, whatever it holds. */
export async function store(root: string, key: string, text: string): Promise<void> {
  const path = join(root, key)
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, text)
}
