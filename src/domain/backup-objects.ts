import type { Artifact } from './backup.ts'

/**
 * Smaller objects of a backup never get a colder storage class: most of these bill each object as if it had this size at
 * least.
 */
export const largeObjectBytes = 128 * 1024

/** The objects of a backup, without its manifest. */
export interface BackupObjects {
  readonly large: number
  readonly largeBytes: number
  readonly small: number
  readonly smallBytes: number
}

export const noObjects: BackupObjects = { large: 0, largeBytes: 0, small: 0, smallBytes: 0 }

export function objectsOf(artifacts: readonly Pick<Artifact, 'stored'>[]): BackupObjects {
  return artifacts.reduce(
    (sum, { stored: { bytes } }) =>
      addObjects(
        sum,
        bytes < largeObjectBytes
          ? { ...noObjects, small: 1, smallBytes: bytes }
          : { ...noObjects, large: 1, largeBytes: bytes },
      ),
    noObjects,
  )
}

export function addObjects(a: BackupObjects, b: BackupObjects): BackupObjects {
  return {
    large: a.large + b.large,
    largeBytes: a.largeBytes + b.largeBytes,
    small: a.small + b.small,
    smallBytes: a.smallBytes + b.smallBytes,
  }
}
