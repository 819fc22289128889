import type { Fingerprint, TableFingerprint } from '../../src/domain/fingerprint.ts'

/** The fingerprint of a database with these tables and nothing else. */
export function fingerprintOf(tables: readonly TableFingerprint[], fields: Partial<Fingerprint> = {}): Fingerprint {
  return {
    formatVersion: 1,
    takenAt: '2026-03-01T00:00:00Z',
    lsn: '0/1000000',
    serverVersionNum: 150018,
    database: {},
    settings: [],
    extensions: [],
    collations: [],
    objects: {},
    largeObjects: null,
    tables,
    warnings: [],
    ...fields,
  }
}
