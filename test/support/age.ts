import { chmod, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { EncryptionConfig } from '../../src/config/validated.ts'
import { runProgram } from '../../src/postgres/programs.ts'

/** A key pair of age. */
export interface AgeKey {
  readonly recipient: string
  /** The file with the private key. */
  readonly file: string
}

/** Makes a key pair in a directory. */
export async function ageKey(directory: string, name = 'key'): Promise<AgeKey> {
  const file = join(directory, `${name}.txt`)
  await runProgram({ program: 'age-keygen', args: ['--output', file] })
  await chmod(file, 0o600)
  const [, recipient = ''] = /^# public key: (age1\S+)$/m.exec(await readFile(file, 'utf8')) ?? []
  return { recipient, file }
}

/** Encrypts for these; opens with the first one's private key, unless another file is given. */
export function encryptingFor(keys: readonly AgeKey[], identityFile: string | null = keys[0]?.file ?? null) {
  return {
    recipients: keys.map(({ recipient }) => recipient),
    recipientsFile: null,
    identityFile,
  } satisfies EncryptionConfig
}

/** As the configuration is written. */
export function encryptionYaml(config: EncryptionConfig | null): Readonly<Record<string, unknown>> {
  if (config === null) return {}
  return { encryption: Object.fromEntries(Object.entries(config).filter(([, value]) => value !== null)) }
}
