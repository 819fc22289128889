import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { Manifest } from '../../src/domain/backup.ts'
import type { Check, Proof, VerificationLevel } from '../../src/domain/proof.ts'
import { createRepositoryLook } from '../../src/observe/repository.ts'
import type { Cluster } from './postgres.ts'
import { type Sidecar, type SidecarOptions, startSidecar } from './sidecar.ts'
import { copyRepository, folderIn } from './tamper.ts'

/** A sidecar whose repository is a copy of another one's, after something was done to it. */
export async function afterDamage(
  t: Test,
  { cluster, source, manifest }: { readonly cluster: Cluster; readonly source: Sidecar; readonly manifest: Manifest },
  damage: (folder: string, repository: string) => Promise<unknown>,
  options: SidecarOptions = {},
): Promise<Sidecar> {
  const repository = await copyRepository(t, source)
  await damage(folderIn(repository, manifest), repository)
  return startSidecar(t, cluster, { repositories: { local: repository }, ...options })
}

export async function proofOf({ repository }: Sidecar, { backupId }: Pick<Manifest, 'backupId'>): Promise<Proof> {
  const proof = await repository.latestProof(backupId)
  if (proof === null) throw new Error(`there is no proof of ${backupId}`)
  return proof
}

/** Verdict and cause of each level that was reached. */
export function verdictsOf({ levels }: Proof): Readonly<Partial<Record<VerificationLevel, string>>> {
  return Object.fromEntries(
    Object.entries(levels).map(([level, { verdict, cause }]) => [level, cause === undefined ? verdict : cause]),
  )
}

/** The checks that did not pass. */
export function problemsOf({ levels }: Proof): readonly Check[] {
  return Object.values(levels).flatMap(({ checks }) => checks.filter(({ verdict }) => verdict !== 'pass'))
}

/** What the catalog has of a sidecar's first repository. */
export async function seenBy({ core, repository }: Sidecar, log: Parameters<typeof createRepositoryLook>[0]['log']) {
  const ours = core.repositories.find((one) => one.repository === repository)?.repository ?? repository
  return createRepositoryLook({ repository: ours, capacity: null, log })(new AbortController().signal)
}

/** The stored segments of a repository in a directory, in the order of their names. */
export async function storedSegments(repository: string): Promise<readonly string[]> {
  const found = await readdir(join(repository, 'test', 'wal'), { recursive: true })
  return found
    .filter((path) => /[0-9A-F]{24}-[0-9a-f]{12}\.zst$/.test(path))
    .toSorted()
    .map((path) => join(repository, 'test', 'wal', path))
}

export async function removeSegment(repository: string, name: string): Promise<void> {
  const all = await storedSegments(repository)
  const files = all.filter((path) => path.includes(`/${name}-`))
  if (files.length === 0) throw new Error(`there is no ${name} among ${all.join(', ')}`)
  for (const file of files) await rm(file)
}
