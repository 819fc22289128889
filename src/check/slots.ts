import type { ValidatedConfig } from '../config/validated.ts'
import { lookAtSlots } from '../observe/slots.ts'
import type { SlotState } from '../observe/wal-state.ts'
import { withSession } from '../postgres/connection.ts'
import { quoteLiteral } from '../postgres/conninfo.ts'
import { type Finding, looked, problem, warning } from './finding.ts'

/** Replication slots that keep too much WAL, that nobody uses, or that the server has given up. */
export async function checkSlots(config: ValidatedConfig, signal: AbortSignal): Promise<readonly Finding[]> {
  const { maintenanceDatabase: database } = config.postgres
  const limit = config.wal.slotLimitBytes
  const own = config.wal.stream?.slot
  return looked('wal', () =>
    withSession(config.postgres, { database, signal }, async (session) =>
      (await lookAtSlots(session, limit)).flatMap((slot) => judge(slot, limit, slot.name === own)),
    ),
  )
}

function judge(slot: SlotState, limit: number, isOwn: boolean): readonly Finding[] {
  const { name, active, walStatus, retainedBytes, overLimit } = slot
  const drop = `SELECT pg_drop_replication_slot(${quoteLiteral(name)})`
  if (walStatus === 'lost') {
    const what = `the server has given the slot ${name} up: who receives with it misses WAL (max_slot_wal_keep_size)`
    return [
      isOwn
        ? warning(
            'wal',
            what,
            'it is made anew when lifeboat receives again; allow it more, or find out why it fell behind',
          )
        : problem('wal', what, `build anew what used it, and drop it: ${drop}`),
    ]
  }
  const kept = `${gibibytes(retainedBytes ?? 0)} of WAL`
  if (overLimit) {
    const whose = active ? 'who receives with it is too slow' : 'nobody receives with it'
    return [
      problem(
        'wal',
        `the slot ${name} keeps ${kept}, more than wal.slotLimit (${gibibytes(limit)}): ${whose}`,
        `the disk of the server fills up, and then it stops: get the receiver going, or if it is not needed any more: ${drop}`,
      ),
    ]
  }
  if (active || retainedBytes === null) return []
  const hint = isOwn ? 'start lifeboat' : `get its receiver going, or if it is not needed any more: ${drop}`
  return [warning('wal', `the slot ${name} keeps ${kept}, and nobody receives with it`, hint)]
}

const gibibytes = (bytes: number) => `${(bytes / 1024 ** 3).toFixed(2)} GiB`
