import type { FiredAlert } from './history.ts'
import { day, type Story } from './past.ts'

/** The moment at which the pictures are taken, seconds since 1970: a Tuesday morning. */
export const now = Date.UTC(2026, 2, 17, 9, 40) / 1_000

const gigabyte = 1e9

const shop: Story = {
  cluster: 'shop',
  databases: [
    { name: 'orders', bytes: 84 * gigabyte },
    { name: 'catalog', bytes: 12 * gigabyte },
  ],
}
const billing: Story = { cluster: 'billing', databases: [{ name: 'ledger', bytes: 190 * gigabyte }] }
const studio: Story = { cluster: 'studio', databases: [{ name: 'assets', bytes: 31 * gigabyte }] }

/** Three clusters that are well. */
export const healthy: readonly Story[] = [shop, billing, studio]

/**
 * A bad morning: the archiver of one cluster has failed for three hours, the dumps of another for three days, with a damaged
 * one found tonight, and of the third the sidecar is silent.
 */
export const failed: readonly Story[] = [
  { ...shop, archiverFailsFrom: now - 3.2 * 3_600 },
  { ...billing, dumpsFailFrom: now - 3 * day, foundBadFrom: now - 4 * 3_600, offsiteDownFrom: now - 40 * 60 },
  { ...studio, silentFrom: now - 5 * 3_600 },
]

const fired = (alertname: string, severity: string, cluster_name: string, from: number): FiredAlert => ({
  labels: { alertname, alertstate: 'firing', severity, ...(cluster_name === '' ? {} : { cluster_name }) },
  from,
})

export const watchdog = fired('Watchdog', 'none', '', 0)

export const failedAlerts: readonly FiredAlert[] = [
  watchdog,
  fired('LifeboatWalArchivingFailing', 'critical', 'shop', now - 3.1 * 3_600),
  fired('LifeboatRecoveryPointTooOld', 'critical', 'shop', now - 2.9 * 3_600),
  fired('LifeboatBackupTooOld', 'critical', 'billing', now - 44 * 3_600),
  fired('LifeboatVerificationFailed', 'critical', 'billing', now - 3.9 * 3_600),
  fired('LifeboatRepositoryDown', 'critical', 'billing', now - 30 * 60),
  fired('LifeboatClusterVanished', 'critical', 'studio', now - 4.9 * 3_600),
]
