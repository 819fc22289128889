import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LifeboatError } from '../domain/errors.ts'
import type { Repository } from '../repository/repository.ts'
import { type Asking, askAll, unanimous } from './ask.ts'

/** The beginning of pg_control, the same in all versions: system identifier, version and catalog version, state. */
const controlBytes = 20
const stateOffset = 16

/** DBState of src/include/catalog/pg_control.h. */
export const inProduction = 6

/** Null where there is no such file that can be read: it is no data directory. */
export async function readControl(
  dataDirectory: string,
): Promise<{ readonly systemIdentifier: string; readonly state: number } | null> {
  try {
    const file = await open(join(dataDirectory, 'global', 'pg_control'))
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(controlBytes), 0, controlBytes, 0)
      const systemIdentifier = buffer.readBigUInt64LE(0)
      if (bytesRead < controlBytes || systemIdentifier === 0n) return null
      return { systemIdentifier: systemIdentifier.toString(), state: buffer.readUInt32LE(stateOffset) }
    } finally {
      await file.close()
    }
  } catch {
    return null
  }
}

const startPattern = /^START WAL LOCATION: [0-9A-F]+\/[0-9A-F]+ \(file ([0-9A-F]{24})\)$/m

/** Where the recovery of a base backup begins, as long as PostgreSQL has not begun it: it renames `backup_label` then. */
export async function firstSegment(dataDirectory: string): Promise<string | null> {
  const label = await readFile(join(dataDirectory, 'backup_label'), 'latin1').catch(() => '')
  return startPattern.exec(label)?.[1] ?? null
}

/**
 * Whose WAL is meant: what was given, or that of the data directory, or the only one that is stored.
 *
 * @throws LifeboatError `usage-invalid` when it was given and is none, or must be given; what the repositories fail with
 */
export async function chooseSystem(
  given: string | null,
  { dataDirectory, repositories, ...asking }: Asking & { dataDirectory: string; repositories: readonly Repository[] },
): Promise<string> {
  if (given !== null) {
    if (!/^[1-9]\d{0,19}$/.test(given))
      throw new LifeboatError('usage-invalid', `${JSON.stringify(given)} is not a system identifier`)
    return given
  }
  const control = await readControl(dataDirectory)
  if (control !== null) return control.systemIdentifier
  const stored = await storedSystems(repositories, asking)
  const [only] = stored
  if (only !== undefined && stored.length === 1) return only
  throw new LifeboatError(
    'usage-invalid',
    only === undefined
      ? 'no WAL is stored in any repository'
      : `the WAL of several clusters is stored: ${stored.join(', ')}`,
    { hint: 'run it in the data directory, as restore_command does, or say which: --system-identifier=ID' },
  )
}

/** The clusters of which there is WAL anywhere. */
export async function storedSystems(repositories: readonly Repository[], asking: Asking): Promise<readonly string[]> {
  const answers = await unanimous(
    'the list of clusters',
    askAll(repositories, asking, async ({ wal }, signal) => {
      const systems: string[] = []
      for await (const system of wal.systems({ signal })) systems.push(system)
      return systems
    }),
  )
  return [...new Set(answers.flatMap(([, systems]) => systems))].toSorted()
}
