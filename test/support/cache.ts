import { homedir, userInfo } from 'node:os'
import { join } from 'node:path'

/**
 * Where the tests keep what takes long to fetch, shared by every checkout. Root's own cache is closed to the user that
 * its servers run as, hence the system's.
 */
export function cacheDirectory(): string {
  if (userInfo().uid === 0) return '/var/cache/lifeboat'
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'lifeboat')
}

/** The root of a PostgreSQL that `postgres-from-debian.sh` unpacks. */
export function unpackedRoot(major: number): string {
  return join(cacheDirectory(), `postgresql-${major}`)
}

/** Where its programs are. */
export function unpackedBinDir(major: number): string {
  return join(unpackedRoot(major), 'usr/lib/postgresql', String(major), 'bin')
}

/** Says why this major could not be had when it was last tried; not there when it could, or never was tried. */
export function whyNotFile(major: number): string {
  return `${unpackedRoot(major)}.why-not`
}

/** What Ceph's S3 server needs. */
export const cephPrograms = ['radosgw', 'ceph-mon', 'ceph-osd', 'ceph', 'uuidgen'] as const

/** Says why Ceph could not be installed when that was last tried. */
export function whyNoCephFile(): string {
  return join(cacheDirectory(), 'ceph.why-not')
}
