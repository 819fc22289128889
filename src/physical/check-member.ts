import { lchown, readdir, readFile, symlink, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { Manifest } from '../domain/backup.ts'
import { majorOf } from '../domain/chain.ts'
import { LifeboatError } from '../domain/errors.ts'
import { wasKilled, withCause } from '../postgres/failures.ts'
import { type Installation, programPath } from '../postgres/installations.ts'
import { type OsUser, runProgram } from '../postgres/programs.ts'
import { hasCode } from '../storage/failures.ts'
import { incompleteMarker } from './places.ts'

/** A backup that was unpacked. */
export interface UnpackedMember {
  readonly manifest: Manifest
  readonly dataDirectory: string
  /** By oid. */
  readonly tablespaces: ReadonlyMap<number, string>
}

export interface CheckOptions {
  readonly installation: Installation
  readonly owner: OsUser | null
  readonly env: Readonly<Record<string, string>>
  readonly signal: AbortSignal
}

/**
 * Replaces the links to the tablespaces of the server that was backed up by links to the places where they are now. Whatever
 * else is neither a directory nor a file of its own is refused: a program would read through a link what belongs to others.
 *
 * @throws LifeboatError `artifact-invalid`
 */
export async function linkTablespaces(member: UnpackedMember, { owner, env, signal }: CheckOptions): Promise<void> {
  const { dataDirectory, tablespaces, manifest } = member
  const links = join(dataDirectory, 'pg_tblspc')
  const found = await readdir(links, { withFileTypes: true }).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) throw invalid(manifest, 'it has no directory pg_tblspc')
    throw error
  })
  for (const entry of found) if (entry.isSymbolicLink()) await unlink(join(links, entry.name))
  const places = [dataDirectory, ...tablespaces.values()]
  const { stdout } = await runProgram({
    program: 'find',
    args: ['-P', ...places, '!', '(', '-type', 'd', '-o', '-type', 'f', '-links', '1', ')', '-print', '-quit'],
    ...{ env, signal, user: owner },
  })
  if (stdout !== '')
    throw invalid(manifest, `${JSON.stringify(stdout.trimEnd())} is neither a directory nor a file of its own`)
  for (const [oid, path] of tablespaces) {
    await linkTo(path, join(links, String(oid)), owner).catch((error: unknown) => {
      if (hasCode(error, 'EEXIST')) throw invalid(manifest, `the tablespace ${oid} is there twice`)
      throw error
    })
  }
}

export async function linkTo(path: string, link: string, owner: OsUser | null): Promise<void> {
  await symlink(path, link)
  if (owner !== null) await lchown(link, owner.uid, owner.gid)
}

/**
 * Compares every file with PostgreSQL's own manifest. To put backups together goes through with damaged ones, too, so each
 * is looked at before.
 *
 * @throws LifeboatError `artifact-invalid`
 */
export async function checkMember(member: UnpackedMember, options: CheckOptions): Promise<void> {
  await checkIdentity(member, options)
  const marks = [...member.tablespaces.keys()].map((oid) => `pg_tblspc/${oid}/${incompleteMarker}`)
  await verifyDirectory(member.dataDirectory, options, marks).catch((error: unknown) => {
    throw refused(member.manifest, error)
  })
}

/** Sees that it is a data directory of this version and cluster. @throws LifeboatError `artifact-invalid` */
export async function checkIdentity(
  { dataDirectory, manifest }: UnpackedMember,
  { installation, owner, env, signal }: CheckOptions,
): Promise<void> {
  const version = await readFile(join(dataDirectory, 'PG_VERSION'), 'utf8').catch(() => '')
  if (version.trim() !== String(majorOf(manifest)))
    throw invalid(manifest, `its data directory is of PostgreSQL ${JSON.stringify(version.trim().slice(0, 20))}`)
  const how = { env, signal, user: owner }
  const { stdout } = await runProgram({
    program: programPath(installation, 'pg_controldata'),
    args: [dataDirectory],
    ...how,
  }).catch((error: unknown) => {
    throw refused(manifest, error)
  })
  const [, system] = /^Database system identifier: +(\d+)$/m.exec(stdout) ?? []
  if (system !== manifest.systemIdentifier)
    throw invalid(manifest, `it is of the cluster ${system}, not of ${manifest.systemIdentifier}`)
}

/** @throws LifeboatError `program-failed` */
export async function verifyDirectory(
  directory: string,
  { installation, owner, env, signal }: CheckOptions,
  ignored: readonly string[] = [],
): Promise<void> {
  await runProgram({
    program: programPath(installation, 'pg_verifybackup'),
    args: [
      '--no-parse-wal', // the WAL is elsewhere
      '--quiet',
      `--ignore=${incompleteMarker}`,
      '--ignore=tablespace_map',
      ...ignored.map((path) => `--ignore=${path}`),
      directory,
    ],
    ...{ env, signal, user: owner },
  })
}

function refused(manifest: Manifest, error: unknown): unknown {
  const told = withCause(error)
  if (!(told instanceof LifeboatError) || told.code !== 'program-failed' || wasKilled(error)) return told
  return invalid(manifest, told.message, told)
}

function invalid({ backupId }: Manifest, why: string, cause?: unknown): LifeboatError {
  return new LifeboatError('artifact-invalid', `${backupId} is not what its manifest says: ${why}`, {
    hint: 'choose another backup, and look at how this one was made and stored',
    details: { cause: 'contents-wrong', backupId },
    cause,
  })
}
