import { createReadStream } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import { findArtifact } from '../domain/backup.ts'
import { toFailure } from '../domain/errors.ts'
import type { EncryptionConfig } from '../encryption/age.ts'
import { ArtifactFetcher } from '../physical/fetch-artifact.ts'
import type { ChainMember } from '../physical/materialize.ts'
import { makeOwnedDirectory } from '../physical/owned-files.ts'
import { restoreFolder } from '../physical/recovery-files.ts'
import { type OsUser, runProgram } from '../postgres/programs.ts'
import { unpackDirectory } from './pack.ts'

export interface UnpackConfigOptions {
  readonly dataDirectory: string
  readonly owner: OsUser | null
  readonly encryption: EncryptionConfig
  readonly clock: Clock
  readonly signal: AbortSignal
}

/** Below the data directory, in the folder of the restore: configuration that lay elsewhere, under its whole paths. */
const configFolder = 'config'

/**
 * Unpacks the configuration that lay outside of the data directory, for people to look at and to put where it belongs. Gives
 * what did not go well: data is worth more than its configuration.
 */
export async function unpackConfig(
  member: ChainMember | undefined,
  { dataDirectory, owner, encryption, clock, signal }: UnpackConfigOptions,
): Promise<readonly string[]> {
  if (member === undefined || findArtifact(member.manifest, 'config.tar') === undefined) return []
  const folder = await mkdtemp(join(tmpdir(), 'lifeboat-'))
  const target = join(dataDirectory, restoreFolder, configFolder)
  try {
    const archive = join(folder, 'config.tar')
    const fetcher = new ArtifactFetcher({ folder, owner: null, env: {}, clock, encryption, onBytes: () => {} })
    await fetcher.read(member, 'config.tar', archive, signal)
    await makeOwnedDirectory(join(dataDirectory, restoreFolder), owner)
    await mkdir(target, { recursive: true, mode: 0o700 })
    await unpackDirectory({ directory: target, env: {}, signal }, createReadStream(archive))
    if (owner !== null)
      await runProgram({ program: 'chown', args: ['-R', `${owner.uid}:${owner.gid}`, target], signal })
    return []
  } catch (error) {
    signal.throwIfAborted()
    await rm(target, { recursive: true, force: true }) // not the half of it, nor what no configuration holds
    return [`the configuration that lay outside of the data directory was not restored: ${toFailure(error).message}`]
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
