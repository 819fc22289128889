import type { ValidatedConfig } from '../config/validated.ts'
import { withSession } from '../postgres/connection.ts'
import { findInstallations } from '../postgres/installations.ts'
import { identifySystem } from '../postgres/replication.ts'
import { received, walSenderFacts } from '../postgres/slots.ts'
import { chooseReceiver } from '../streaming/receiver.ts'
import { type Finding, looked, ok, problem, warning } from './finding.ts'

/** Whether the WAL can be received: role, pg_hba.conf, settings and program. Nothing without wal.stream. */
export async function checkStreaming(config: ValidatedConfig, signal: AbortSignal): Promise<readonly Finding[]> {
  const { stream } = config.wal
  if (stream === null) return []
  const { maintenanceDatabase: database, binDir, user } = config.postgres
  return looked('wal', async () => {
    await identifySystem(config.postgres, signal)
    return withSession(config.postgres, { database, signal }, async (session): Promise<Finding[]> => {
      const facts = await walSenderFacts(session)
      const [at, installations] = [await received(session, stream.slot), await findInstallations(binDir)]
      const receiver = await chooseReceiver(installations, facts.serverMajor)
      const findings: Finding[] = []
      if (facts.walLevel === 'minimal')
        findings.push(problem('wal', 'WAL cannot be received: wal_level is minimal', setup))
      if (at.kept === null && facts.freeSlots <= 0)
        findings.push(
          problem(
            'wal',
            'no replication slot is free',
            'raise max_replication_slots, which needs a restart of the server',
          ),
        )
      if (!at.isVisible)
        findings.push(
          problem(
            'wal',
            'how far WAL is received cannot be seen, so that nothing of an unfinished segment is stored',
            `GRANT pg_monitor TO ${JSON.stringify(user)}`,
          ),
        )
      if (facts.isWaitedFor)
        findings.push(
          warning(
            'wal',
            'synchronous_standby_names fits lifeboat: commits wait for it, and the server stands still while it is down',
            'name the standbys there, without * and without lifeboat',
          ),
        )
      if (findings.length > 0) return findings
      const state = at.written === null ? 'nobody does just now' : 'it is'
      return [
        ok(
          'wal',
          `WAL can be received through the slot ${stream.slot} with pg_receivewal ${receiver.version}: ${state}`,
        ),
      ]
    })
  })
}

const setup = '`lifeboat wal setup` shows what to set'
