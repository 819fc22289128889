/**
 * How much an alert wants: `critical` wakes somebody, since data may be lost or could not be brought back; `warning` is
 * looked at during the day; `none` is for the one that always fires.
 */
export type Severity = 'critical' | 'warning' | 'none'

/** Every alert. A name is for ever: silences, routes and runbooks (docs/runbooks/<name>.md) refer to it. */
export const severities = {
  // Backups.
  LifeboatBackupTooOld: 'critical',
  LifeboatBackupNeverCompleted: 'warning',
  LifeboatBackupMissingInRepository: 'warning',
  LifeboatBackupFailed: 'warning',
  LifeboatBackupUnusuallySmall: 'warning',
  LifeboatBackupUnusuallyLarge: 'warning',
  LifeboatBackupRowsUnusual: 'warning',
  LifeboatBackupUnusable: 'warning',
  LifeboatGlobalsMissing: 'warning',

  // Dumps of other tools.
  LifeboatExternalBackupTooOld: 'critical',
  LifeboatExternalBackupBroken: 'warning',
  LifeboatExternalBackupMissing: 'critical',
  LifeboatExternalDatabaseGone: 'warning',

  // Verification.
  LifeboatVerificationFailed: 'critical',
  LifeboatVerificationInconclusive: 'warning',
  LifeboatVerificationNever: 'warning',
  LifeboatVerificationOverdue: 'warning',

  // Objectives: how much would be lost, how long it would take, how far back it goes.
  LifeboatNotRecoverable: 'critical',
  LifeboatRecoveryPointTooOld: 'critical',
  LifeboatRecoveryPointBurnsFast: 'critical',
  LifeboatRecoveryPointBurnsSlowly: 'warning',
  LifeboatRestoreTooSlow: 'warning',
  LifeboatRecoveryWindowTooShort: 'warning',

  // WAL.
  LifeboatWalSegmentsMissing: 'critical',
  LifeboatWalArchivingFailing: 'critical',
  LifeboatWalArchivingHung: 'critical',
  LifeboatWalArchivingLying: 'critical',
  LifeboatWalArchivingLagging: 'warning',
  LifeboatWalArchivingOff: 'warning',
  LifeboatWalArchiveDiskFilling: 'warning',
  LifeboatWalArchiveDiskNearlyFull: 'critical',
  LifeboatWalBacklog: 'warning',
  LifeboatWalShippingFailing: 'warning',
  LifeboatWalQuarantined: 'warning',
  LifeboatWalStreamDown: 'warning',
  LifeboatWalStreamHole: 'critical',
  LifeboatSlotRetainsTooMuch: 'critical',
  LifeboatSlotLost: 'warning',
  LifeboatSlotInactive: 'warning',

  // Repositories.
  LifeboatRepositoryDown: 'critical',
  LifeboatRepositoryNotRecoverable: 'warning',
  LifeboatRepositoryBehind: 'warning',
  LifeboatRepositoryFilling: 'warning',
  LifeboatRepositoryNearlyFull: 'warning',
  LifeboatRepositoryOverBudget: 'warning',
  LifeboatRepositoryPostureWeak: 'warning',
  LifeboatRepositoryReplicationFailed: 'warning',
  LifeboatRepositoryForeignObjects: 'warning',
  LifeboatRepositoryRequestsFailing: 'warning',
  LifeboatLeaseUnheld: 'warning',
  LifeboatRetentionBlocked: 'warning',
  LifeboatEncryptionKeyUnreadable: 'critical',

  // Jobs, hooks, notifications.
  LifeboatJobStuck: 'critical',
  LifeboatJobSlow: 'warning',
  LifeboatJobFailing: 'warning',
  LifeboatJobOverdue: 'warning',
  LifeboatHookFailed: 'warning',
  LifeboatNotificationFailed: 'warning',

  // Lifeboat itself and the server.
  LifeboatAbsent: 'critical',
  LifeboatClusterVanished: 'critical',
  LifeboatExporterDown: 'warning',
  LifeboatServerDown: 'critical',
  LifeboatCollectorFailing: 'warning',
  LifeboatCollectorStale: 'warning',
  LifeboatClockSkew: 'warning',

  // Drills.
  LifeboatAlertPathUnproven: 'warning',
  LifeboatAlertDrill: 'critical',

  // Always fires: what does not hear it raises the alarm.
  Watchdog: 'none',
} as const satisfies Record<string, Severity>

export type AlertName = keyof typeof severities
