import { backupCases } from './cases-backups.ts'
import { recoveryCases } from './cases-recovery.ts'
import { sidecarCases } from './cases-sidecar.ts'
import { walCases } from './cases-wal.ts'
import type { Case } from './scenario.ts'

/** One for each alert of a cluster. Those that are of none are in `by-hand.ts`. */
export const cases: readonly Case[] = [...backupCases, ...recoveryCases, ...walCases, ...sidecarCases]
