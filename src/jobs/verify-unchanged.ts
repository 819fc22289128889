import { type Manifest, plainName } from '../domain/backup.ts'
import type { HashedArtifact, LevelResult } from '../domain/proof.ts'
import type { Repository } from '../repository/repository.ts'
import { VerdictError } from './level-recorder.ts'
import type { FetchedArtifacts } from './verify-artifacts.ts'

/** A manifest, and the identity of the bytes that it was read from. */
export interface SeenManifest {
  readonly manifest: Manifest
  readonly version: string
}

/**
 * A proof is about the bytes that are there, not about ones that somebody has replaced while it was being made: all of
 * them must still be the ones that were read. A backup that was removed meanwhile is no backup any more.
 *
 * @throws VerdictError `artifact-changed`; LifeboatError `storage-failed`
 */
export async function assertUnchanged(
  repository: Repository,
  { manifest: { backupId }, version }: SeenManifest,
  artifacts: readonly HashedArtifact[],
  signal: AbortSignal,
): Promise<'unchanged' | 'removed'> {
  const manifest = await repository.headManifest(backupId, { signal })
  if (manifest === null) return 'removed'
  const changed = manifest.version === version ? [] : ['manifest.json']
  for (const artifact of artifacts) {
    const found = await repository.headArtifact(backupId, artifact.name, { signal })
    if (found?.version !== artifact.version) changed.push(artifact.name)
  }
  if (changed.length === 0) return 'unchanged'
  const words = `changed while it was being verified: ${changed.join(', ')}`
  throw new VerdictError('fail', 'artifact-changed', 'unchanged', words)
}

/**
 * The deeper levels need these in memory.
 *
 * @throws VerdictError `artifact-too-large`
 */
export function assertHeld({ artifacts }: Manifest, { files }: FetchedArtifacts): void {
  const missing = artifacts.find(
    (one) => ['globals.sql', 'fingerprint.json'].includes(plainName(one)) && !files.has(plainName(one)),
  )
  if (missing === undefined) return
  const words = `${missing.name} has ${missing.stored.bytes} bytes, more than this version can handle`
  throw new VerdictError('inconclusive', 'artifact-too-large', missing.name, words)
}

/** A level and what was found about it later; the worse verdict counts. */
export function withLater(first: LevelResult, later: LevelResult): LevelResult {
  const { verdict, cause } = later.verdict === 'pass' ? first : later
  return {
    ...first,
    verdict,
    ...(cause === undefined ? {} : { cause }),
    checks: [...first.checks, ...later.checks],
    finishedAt: later.finishedAt,
    durationSeconds: first.durationSeconds + later.durationSeconds,
  }
}
