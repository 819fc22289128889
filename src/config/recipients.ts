import { LifeboatError } from '../domain/errors.ts'

// The alphabet of bech32; the checksum is for age to look at.
const ageRecipient = /^age1[02-9ac-hj-np-z]{58}$/
const sshRecipient = /^ssh-(?:ed25519|rsa) [A-Za-z0-9+/]{60,}={0,2}(?: [^\p{Cc}]*)?$/u

/** Why a text is no public key that age takes without a plugin, in words; undefined: it looks like one. */
export function recipientProblem(text: string): { readonly message: string; readonly hint?: string } | undefined {
  if (ageRecipient.test(text) || sshRecipient.test(text)) return undefined
  if (/^AGE-SECRET-KEY-|^-----BEGIN/i.test(text))
    return {
      message: 'is a private key, and a public one belongs here',
      hint: 'age-keygen -y FILE prints the public one. Where others may have read this file make a new key.',
    }
  if (/^age1[a-z0-9+._-]+1/.test(text))
    return { message: 'is a key of a plugin of age, and those are not used', hint: 'Use one that age-keygen makes.' }
  return {
    message: 'is not a public key of age',
    hint: 'It begins with age1 and has 62 characters, or is the line of an ssh-ed25519 or ssh-rsa key. age-keygen makes one.',
  }
}

/** @throws LifeboatError `usage-invalid` for a value that is no public key */
export function assertRecipient(value: unknown): void {
  const problem = recipientProblem(String(value))
  if (problem === undefined) return
  const { message, hint } = problem
  throw new LifeboatError('usage-invalid', message, hint === undefined ? {} : { hint })
}
