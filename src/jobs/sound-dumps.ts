import type { Manifest } from '../domain/backup.ts'
import { toFailure } from '../domain/errors.ts'
import { isRestoreProof, overallVerdict, type Proof, type Standing, standing } from '../domain/proof.ts'
import type { Repository } from '../repository/repository.ts'
import { type NewestOptions, newestDumps } from './newest-dumps.ts'

/** The newest dumps, and those newer ones that were passed over. */
export interface SoundDumps {
  readonly sound: readonly Manifest[]
  readonly refuted: readonly Manifest[]
}

/** Like `newestDumps`, without those that a verification has refuted: who wants one of them names it by its id. */
export async function newestSoundDumps(
  repository: Repository,
  databases: readonly string[] | null,
  options: NewestOptions,
): Promise<SoundDumps> {
  const refuted: Manifest[] = []
  for (;;) {
    const without = new Set(refuted.map(({ backupId }) => backupId))
    const newest = await newestDumps(repository, databases, { ...options, without })
    const standings = await Promise.all(newest.map((manifest) => standingOf(repository, manifest, options)))
    const bad = newest.filter((_, index) => standings[index] === 'refuted')
    if (bad.length === 0) return { sound: newest, refuted }
    for (const { backupId } of bad) {
      options.log.warn({ repository: repository.name, backup: backupId }, 'passed over: its verification failed')
    }
    refuted.push(...bad)
  }
}

/** What the proofs of these very bytes say. One that cannot be read says nothing. */
export async function standingOf(
  repository: Repository,
  { backupId, checksum }: Manifest,
  { signal, log }: Pick<NewestOptions, 'signal' | 'log'>,
): Promise<Standing> {
  const proofs: Proof[] = []
  for await (const entry of repository.listProofs({ signal })) {
    if (entry.backupId !== backupId) continue
    try {
      proofs.push(await repository.readProof(entry.key, { signal }))
    } catch (error) {
      signal.throwIfAborted()
      log.warn({ repository: repository.name, proof: entry.key, ...toFailure(error) }, 'proof cannot be used')
    }
  }
  const counting = proofs
    .filter((proof) => proof.manifestChecksum === checksum)
    .toSorted((a, b) => Date.parse(b.finishedAt) - Date.parse(a.finishedAt))
  return standing(
    counting.map((proof) => ({
      verdict: overallVerdict(proof),
      provesRestore: isRestoreProof(proof),
      levels: proof.levels,
    })),
  )
}
