import { LifeboatError } from '../domain/errors.ts'
import type { Stoppable } from './backup-folder.ts'
import type { HoldBody } from './hold.ts'
import type { ReadHold } from './holds.ts'
import { changeLocks } from './locks.ts'
import type { Repository } from './repository.ts'

type Held = Pick<Repository, 'storage' | 'cluster' | 'readManifest' | 'listHolds' | 'readHold' | 'headManifest'>

/** Locks a held backup, and what it builds on, for as long as it is held: without an end by a legal hold, which can be taken off. */
export async function lockHeld(repository: Held, { backupId, until }: HoldBody, options: Stoppable): Promise<void> {
  if (repository.storage.locks === undefined) return
  const ends = until === null ? null : new Date(until)
  await changeLocks(
    repository,
    await chainOf(repository, backupId, options),
    (locks, key) => (ends === null ? locks.hold(key, options) : locks.extend(key, ends, options)),
    options,
  )
}

/** Takes off the legal holds of a hold without an end that is over, where no other such hold needs them. */
export async function unlockReleased(
  repository: Held,
  id: string,
  former: ReadHold | null,
  options: Stoppable,
): Promise<void> {
  if (repository.storage.locks === undefined || !isEndless(former)) return
  const needed = new Set<string>()
  for await (const { backupId } of repository.listHolds(options)) {
    if (!isEndless(await repository.readHold(backupId, options))) continue
    for (const one of await chainOf(repository, backupId, options)) needed.add(one)
  }
  const over = (await chainOf(repository, id, options)).filter((one) => !needed.has(one))
  await changeLocks(repository, over, (locks, key) => locks.release(key, options), options)
}

/** One that cannot be read may be. */
function isEndless(hold: ReadHold | null): boolean {
  return hold !== null && ('problem' in hold || hold.hold.until === null)
}

/** A backup and those that it builds on, as far as they are there. */
async function chainOf(repository: Held, id: string, options: Stoppable): Promise<readonly string[]> {
  const chain: string[] = []
  for (let next: string | null = id; next !== null && !chain.includes(next); ) {
    if ((await repository.headManifest(next, options)) === null) break
    chain.push(next)
    next = await parentOf(repository, next, options)
  }
  return chain
}

/** Null also where the manifest cannot be read: nothing expires in such a repository anyhow. */
async function parentOf(repository: Held, id: string, options: Stoppable): Promise<string | null> {
  try {
    return (await repository.readManifest(id, options)).parent
  } catch (error) {
    if (error instanceof LifeboatError && /^manifest-/.test(error.code)) return null
    throw error
  }
}
