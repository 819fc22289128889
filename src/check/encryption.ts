import type { ValidatedConfig } from '../config/validated.ts'
import { type Artifact, isEncrypted, isEncryptedArtifact, type Manifest } from '../domain/backup.ts'
import { toFailure } from '../domain/errors.ts'
import { decryptStage, isEncrypting } from '../encryption/age.ts'
import { decryptBytes, encryptBytes } from '../encryption/filter.ts'
import { readableManifest } from '../jobs/newest-dumps.ts'
import { readStored } from '../jobs/read-stored.ts'
import { runProgram } from '../postgres/programs.ts'
import type { Repository } from '../repository/repository.ts'
import { type Finding, looked, ok, problem, warning } from './finding.ts'

const area = 'encryption'

/** The largest that is fetched to show that it can be opened, bytes. */
const mostBytes = 64 * 1024 * 1024

/**
 * Whether what is stored from now on can be encrypted, and whether what is stored can be opened: by opening the smallest
 * encrypted artifact of the newest encrypted backup in each repository. Nothing where no key is configured and nothing is encrypted.
 */
export async function checkEncryption(
  { encryption }: Pick<ValidatedConfig, 'encryption'>,
  repositories: readonly Repository[],
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const isOn = isEncrypting(encryption)
  const hasKey = encryption.identityFile !== null
  if (!isOn && !hasKey) return stored({ encryption }, repositories, signal)
  const program = await looked(area, async () => {
    const { stdout } = await runProgram({ program: 'age', args: ['--version'], signal })
    return [ok(area, `age ${stdout.trim()}`)]
  })
  if (program.some(({ status }) => status === 'error')) return program
  return [
    ...program,
    ...(isOn ? await looked(area, () => checkRecipients({ encryption }, signal)) : [notOn]),
    ...(hasKey ? [] : [noKey]),
    ...(await stored({ encryption }, repositories, signal)),
  ]
}

const notOn = warning(
  area,
  'an identity is configured, and no recipient: new backups are not encrypted',
  'set encryption.recipients, unless this machine only restores',
)

const noKey = warning(
  area,
  'no identity is configured here: nothing proves that the backups can be opened',
  'whoever loses the private key loses every backup; verify regularly on a machine that has it (encryption.identityFile), and keep a copy elsewhere (docs/encryption.md)',
)

type Keys = Pick<ValidatedConfig, 'encryption'>

/** That all recipients are ones, and that what is encrypted for them could be read here. */
async function checkRecipients({ encryption }: Keys, signal: AbortSignal): Promise<readonly Finding[]> {
  const sample = Buffer.from('lifeboat')
  const sealed = await encryptBytes(encryption, sample, signal)
  const found = [ok(area, 'what is stored from now on is encrypted')]
  if (encryption.identityFile === null) return found
  try {
    await decryptBytes(encryption, sealed, { mostBytes: sample.length, signal })
    return [...found, ok(area, 'the identity opens what is encrypted from now on')]
  } catch (error) {
    const { code, message, hint = '' } = toFailure(error)
    if (code !== 'identity-mismatch') return [...found, problem(area, message, hint)]
    const what = 'the identity belongs to none of the recipients: it will not open the backups from now on'
    return [...found, problem(area, what, 'add its public key to encryption.recipients: age-keygen -y FILE prints it')]
  }
}

async function stored({ encryption }: Keys, repositories: readonly Repository[], signal: AbortSignal) {
  const found: Finding[] = []
  for (const repository of repositories)
    found.push(...(await looked(area, () => checkNewest({ encryption }, repository, signal), repository.name)))
  return found
}

async function checkNewest(
  { encryption }: Keys,
  repository: Repository,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const newest = await newestEncrypted(repository, signal)
  if (newest === null) return []
  const { manifest, artifact } = newest
  const { backupId } = manifest
  const where = `${repository.name}: ${backupId}`
  if (encryption.identityFile === null) {
    const what = `${where}, the newest that is encrypted, cannot be opened here: no identity is configured`
    return [warning(area, what, 'set encryption.identityFile where backups are verified and restored')]
  }
  try {
    await decryptStage(encryption)
    const bytes = await readStored(repository, { backupId, artifact, mostBytes }, signal)
    await decryptBytes(encryption, bytes, { mostBytes, signal })
    return [ok(area, `${where}, the newest that is encrypted, was opened`)]
  } catch (error) {
    signal.throwIfAborted()
    const { message, hint = 'verify it' } = toFailure(error)
    return [problem(area, `${where}, the newest that is encrypted, was not opened: ${message}`, hint)]
  }
}

/** Ids carry the start: those that began last are looked at first. What cannot be read is told of elsewhere. */
async function newestEncrypted(
  repository: Repository,
  signal: AbortSignal,
): Promise<{ readonly manifest: Manifest; readonly artifact: Artifact } | null> {
  const ids: string[] = []
  for await (const id of repository.listBackups({ signal })) ids.push(id)
  for (const id of ids.toSorted().toReversed().slice(0, mostLooks)) {
    const manifest = await readableManifest(repository, id, signal)
    if (manifest === null || !isEncrypted(manifest)) continue
    const [artifact] = manifest.artifacts
      .filter(isEncryptedArtifact)
      .toSorted((a, b) => a.stored.bytes - b.stored.bytes)
    if (artifact !== undefined) return { manifest, artifact }
  }
  return null
}

/** Where encryption was switched off long ago, there is nothing that a look further back would tell of the newest. */
const mostLooks = 200
