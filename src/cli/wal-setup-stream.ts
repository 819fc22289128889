import type { ValidatedConfig } from '../config/validated.ts'
import { LifeboatError, toFailure } from '../domain/errors.ts'
import { withSession } from '../postgres/connection.ts'
import { quoteIdentifier } from '../postgres/conninfo.ts'
import { identifySystem } from '../postgres/replication.ts'
import { walSenderFacts } from '../postgres/slots.ts'
import type { CliContext } from './command.ts'
import { oneLine, table } from './format.ts'

interface Need {
  readonly name: string
  readonly now: string
  readonly isRight: boolean
  /** What to do where it is not right. */
  readonly change: string
}

/** `lifeboat wal setup` with wal.stream: tells what the server needs so that its WAL can be received. Changes nothing. */
export async function setUpStreaming(
  config: ValidatedConfig,
  slot: string,
  { json, apply }: { readonly json?: boolean | undefined; readonly apply?: boolean | undefined },
  { signal, out }: CliContext,
): Promise<number> {
  if (apply)
    throw new LifeboatError('usage-invalid', 'with wal.stream nothing is set', {
      hint: '`lifeboat wal setup` shows what is needed; for archive_command as well, use a configuration without wal.stream',
    })
  const { maintenanceDatabase: database, user } = config.postgres
  const facts = await withSession(config.postgres, { database, signal }, walSenderFacts)
  const refused = facts.mayReplicate
    ? await identifySystem(config.postgres, signal).then(() => null, toFailure)
    : { message: 'not tried: the role may not', hint: 'see after the role has REPLICATION' }
  signal.throwIfAborted()
  const needs: readonly Need[] = [
    {
      name: 'wal_level',
      now: facts.walLevel,
      isRight: facts.walLevel !== 'minimal',
      change: `ALTER SYSTEM SET wal_level = 'replica', and restart`,
    },
    {
      name: 'max_wal_senders',
      now: String(facts.maxWalSenders),
      isRight: facts.maxWalSenders > 0,
      change: 'ALTER SYSTEM SET max_wal_senders = 10, and restart',
    },
    {
      name: 'max_replication_slots',
      now: `${facts.maxSlots}, ${Math.max(0, facts.freeSlots)} free`,
      isRight: facts.freeSlots > 0 || facts.slotNames.includes(slot),
      change: `ALTER SYSTEM SET max_replication_slots = ${facts.maxSlots + 2}, and restart`,
    },
    {
      name: `role ${user}`,
      now: facts.mayReplicate ? 'may replicate' : 'may not replicate',
      isRight: facts.mayReplicate,
      change: `ALTER ROLE ${quoteIdentifier(user)} REPLICATION`,
    },
    {
      name: 'pg_hba.conf',
      now: refused === null ? 'lets it in' : refused.message,
      isRight: refused === null,
      change: refused?.hint ?? '',
    },
  ]
  if (json) {
    out.write(`${JSON.stringify({ stream: { slot, slotExists: facts.slotNames.includes(slot), needs } }, null, 2)}\n`)
    return 0
  }
  const rows = needs.map(({ name, now, isRight, change }) => [
    oneLine(name),
    oneLine(now),
    isRight ? 'right' : oneLine(change),
  ])
  const made = facts.slotNames.includes(slot) ? 'is there' : 'is made at the first start'
  out.write(
    `${table([['to receive WAL', 'now', ''], ...rows])}\nThe slot ${slot} ${made}. archive_mode and archive_command are not needed for this, and are left as they are.\n`,
  )
  return 0
}
