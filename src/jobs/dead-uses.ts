import type { Clock } from '../clock.ts'
import { heartbeatMs } from '../repository/heartbeat.ts'
import { isSilent } from '../repository/in-progress.ts'
import type { Repository } from '../repository/repository.ts'

/** Removes the marks that a killed run of this history has left. Gives their keys. */
export async function removeEndedUses(
  repository: Repository,
  isOver: (runId: string) => boolean,
): Promise<readonly string[]> {
  const ended: string[] = []
  for await (const { key } of repository.listUses()) {
    const mark = await repository.readUse(key)
    if (mark !== null && isOver(mark.runId)) ended.push(key)
  }
  for (const key of ended) await repository.storage.remove(key)
  return ended
}

/** A mark that a backup is in use. */
export interface UseMark {
  readonly key: string
  readonly version: string
  /** Null when the mark cannot be read. */
  readonly runId: string | null
  readonly heartbeatAt: Date
}

/** Two signs of life and a half. */
const watchMs = 2.5 * heartbeatMs

/**
 * Finds, and removes, the marks of use whose holder is dead: its run is known to have ended, or it was silent for long and
 * gives no sign while we watch. Its clock may be behind ours, so that what it writes alone looks old; hence we watch. That
 * takes over a minute, and is needed only after somebody has died. Gives their keys.
 */
export async function findDeadUses(
  repository: Repository,
  uses: readonly UseMark[],
  {
    clock,
    isOver,
    signal,
  }: { readonly clock: Clock; readonly isOver: (runId: string) => boolean; readonly signal: AbortSignal },
): Promise<ReadonlySet<string>> {
  const dead = new Set(uses.filter(({ runId }) => runId !== null && isOver(runId)).map(({ key }) => key))
  const silent = uses.filter(({ key, heartbeatAt }) => !dead.has(key) && isSilent(heartbeatAt, clock.now()))
  if (silent.length > 0) {
    await clock.sleep(watchMs, signal)
    const versions = new Map<string, string>()
    for await (const { key, info } of repository.listUses({ signal })) versions.set(key, info.version)
    for (const { key, version } of silent) if ((versions.get(key) ?? version) === version) dead.add(key)
  }
  for (const key of dead) await repository.storage.remove(key, { signal })
  return dead
}
