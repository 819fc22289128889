import { readIdentities, readRecipients } from '../config/encryption.ts'
import type { EncryptionConfig } from '../config/validated.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { ProgramOptions } from '../postgres/programs.ts'

/*
 * age (https://age-encryption.org) as a stage of a pipe. It encrypts 64 KiB at a time, each with its own tag, under a key that
 * is made for this file and wrapped for every recipient. What it prints when it decrypts has been authenticated, chunk by
 * chunk; that nothing is missing at the end only its exit status says.
 */

export type { EncryptionConfig } from '../config/validated.ts'

/** Without any keys. */
export const noEncryption: EncryptionConfig = { recipients: [], recipientsFile: null, identityFile: null }

/** Whether what is stored from now on is to be encrypted; what is stored already says for itself what it is. */
export function isEncrypting({ recipients, recipientsFile }: EncryptionConfig): boolean {
  return recipients.length > 0 || recipientsFile !== null
}

/**
 * What encrypts its standard input for all recipients, as they are now; null where nothing is encrypted.
 *
 * @throws LifeboatError `config-invalid` for a file of recipients that cannot be used
 */
export async function encryptStage(config: EncryptionConfig): Promise<ProgramOptions | null> {
  if (!isEncrypting(config)) return null
  const { recipients, recipientsFile } = config
  const all = [...recipients, ...(recipientsFile === null ? [] : await readRecipients(recipientsFile))]
  return { program: 'age', args: ['--encrypt', ...all.flatMap((one) => ['--recipient', one])] }
}

/**
 * What decrypts its standard input. `program` failures of a pipe with it go through `decryptionFailure`.
 *
 * @throws LifeboatError `identity-missing` where none is configured; `config-invalid` for one that cannot be used
 */
export async function decryptStage({ identityFile }: EncryptionConfig): Promise<ProgramOptions> {
  if (identityFile === null)
    throw new LifeboatError('identity-missing', 'it is encrypted, and no identity is configured that could open it', {
      hint: 'set encryption.identityFile to the file with the private key',
    })
  await readIdentities(identityFile)
  return { program: 'age', args: ['--decrypt', '--identity', identityFile] }
}

/**
 * Sees that the files with the keys are still there and can be used; null where there are none. Nothing is stored without the
 * public keys, and nothing read without the private one: that must not be learned from a restore.
 */
export function lookAtKeys({ recipientsFile, identityFile }: EncryptionConfig): (() => Promise<void>) | null {
  if (recipientsFile === null && identityFile === null) return null
  return async () => {
    if (recipientsFile !== null) await readRecipients(recipientsFile)
    if (identityFile !== null) await readIdentities(identityFile)
  }
}

// Found by turning over every bit of an encrypted file, and by giving age every kind of key that it does not take.
const ofKeys =
  /^(?:reading "|malformed (?:SSH )?recipient|unknown recipient type|failed to parse recipient file|failed to obtain passphrase)/
const ofCiphertext = /^(?:failed to (?:read header|parse|decrypt)|bad header|last chunk)|unexpected EOF/

/**
 * What a failure of age means, by its words on stderr: it has no exit codes. Anything else is handed back as it is. A damaged
 * header can look like one for other keys: whoever knows the SHA-256 of what was stored compares that first.
 *
 * `identity-mismatch` none of the identities opens it; `artifact-invalid` (`details.cause` `ciphertext-damaged`) it is torn,
 * altered, or was never encrypted; `config-invalid` a key that age does not take.
 */
export function ageFailure(error: unknown): unknown {
  if (!(error instanceof LifeboatError)) return error
  const { code, details } = error
  const stderr = typeof details?.stderr === 'string' ? details.stderr : ''
  const [, said] = /^age: error: (.*)$/m.exec(stderr) ?? []
  if (code !== 'program-failed' || said === undefined) return error
  if (/no identity matched|identity did not match/.test(said))
    return new LifeboatError('identity-mismatch', 'none of the configured identities opens it', {
      hint: 'add the private key of one of its recipients to encryption.identityFile; old keys stay there',
      cause: error,
    })
  if (ofKeys.test(said))
    return new LifeboatError('config-invalid', `age cannot use the configured keys: ${said}`, {
      hint: 'see encryption in the configuration',
      cause: error,
    })
  if (ofCiphertext.test(said))
    return new LifeboatError('artifact-invalid', `it cannot be decrypted: ${said}`, {
      hint: 'take another copy: what is stored is torn or altered',
      details: { ...details, cause: 'ciphertext-damaged' },
      cause: error,
    })
  return error
}
