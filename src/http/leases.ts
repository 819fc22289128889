import { type Static, Type } from 'typebox'
import type { LeaseStatus } from '../runner/lease.ts'
import { FailureSchema, moment, orNull } from './schema-parts.ts'

/** A lease as the API shows it. */
export const LeaseSchema = Type.Object(
  {
    repository: Type.String(),
    state: Type.Enum(['held', 'waiting', 'unknown'], {
      description:
        '`held`: this lifeboat writes to the repository. `waiting`: another one does, and this one stands by. `unknown`: the repository is not there or does not answer.',
    }),
    since: moment('Since when it is so'),
    holder: orNull(
      Type.Object(
        {
          host: Type.String(),
          pid: Type.Integer(),
          acquiredAt: moment(''),
          renewedAt: moment('By the clock of the holder'),
        },
        { description: 'Of `waiting`: on whom; null when the lease cannot be understood' },
      ),
    ),
    failure: orNull(FailureSchema),
  },
  { description: 'Which lifeboat writes to a repository' },
)

export function describeLease({ repository, state, since, holder, failure }: LeaseStatus): Static<typeof LeaseSchema> {
  const shown = holder && {
    host: holder.host,
    pid: holder.pid,
    acquiredAt: holder.acquiredAt,
    renewedAt: holder.renewedAt,
  }
  return { repository, state, since: since.toISOString(), holder: shown, failure }
}
