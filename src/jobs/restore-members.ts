import type { ValidatedConfig } from '../config/validated.ts'
import type { Manifest } from '../domain/backup.ts'
import type { RecoveryPlan } from '../domain/recovery-plan.ts'
import type { ChainMember } from '../physical/materialize.ts'
import type { Repository } from '../repository/repository.ts'
import { unseal } from './unseal.ts'

/**
 * The members of the chain, opened, each with the repositories that have it: that of the plan first, then the nearest.
 *
 * @throws what the repositories say, where none has a member
 */
export async function readMembers(
  { chain }: RecoveryPlan,
  planned: string,
  {
    config,
    repositories,
    signal,
  }: {
    readonly config: Pick<ValidatedConfig, 'encryption'>
    readonly repositories: readonly Repository[]
    readonly signal: AbortSignal
  },
): Promise<readonly ChainMember[]> {
  const nearest = repositories.toSorted((a, b) => Number(b.name === planned) - Number(a.name === planned))
  const members: ChainMember[] = []
  for (const { id } of chain) {
    const copies: { readonly repository: Repository; readonly manifest: Manifest }[] = []
    let problem: unknown = null
    for (const repository of nearest) {
      try {
        copies.push({ repository, manifest: await repository.readManifest(id, { signal }) })
      } catch (error) {
        signal.throwIfAborted()
        problem ??= error
      }
    }
    const [first] = copies
    if (first === undefined) throw problem
    const same = copies.filter(({ manifest }) => manifest.checksum === first.manifest.checksum)
    const holders = same.map(({ repository }) => repository)
    const manifest = await unseal(config.encryption, first.manifest, { repositories: holders, signal })
    members.push({ manifest, repositories: holders })
  }
  return members
}
