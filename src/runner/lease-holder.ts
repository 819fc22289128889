import { hash, randomUUID } from 'node:crypto'
import { statSync } from 'node:fs'
import type { History } from './history.ts'
import { ownProcess } from './process-identity.ts'

const fact = 'lease holder'

/**
 * What all processes of a state directory are called as holders of leases; null: none has wanted one, or it was another
 * state directory that this one is a copy of.
 */
export function leaseHolder(history: Pick<History, 'fact'>, stateFile: string): string | null {
  const holder = history.fact(fact)
  return holder?.endsWith(` ${whereabouts(stateFile)}`) ? holder : null
}

/**
 * Makes up the name of a state directory that has none of its own. To be asked each time: of two processes that do this at
 * once, the later one's word stands.
 */
export function nameLeaseHolder(history: Pick<History, 'fact' | 'keepFact'>, stateFile: string): () => string {
  if (leaseHolder(history, stateFile) === null) history.keepFact(fact, `${randomUUID()} ${whereabouts(stateFile)}`)
  return () => history.fact(fact) ?? ''
}

/**
 * Differs between a state file and its copy: beside it, on another disk, or in another machine, which has the same name when
 * it was cloned. After a restart of the machine it is another one, too: then the old lease has to lapse.
 */
function whereabouts(stateFile: string): string {
  const { dev, ino } = statSync(stateFile)
  return hash('sha256', `${ownProcess().bootId} ${dev} ${ino}`).slice(0, 16)
}
