import { LifeboatError } from '../domain/errors.ts'

export const wrong = (message: string, hint?: string) =>
  new LifeboatError('usage-invalid', message, hint ? { hint } : {})

/** A check of a text by a rule of its own. */
export const matching = (rule: (text: string) => boolean, message: string, hint?: string) => (value: unknown) => {
  if (!rule(String(value))) throw wrong(message, hint)
}

export function isHttpUrl(text: string): boolean {
  return URL.canParse(text) && ['http:', 'https:'].includes(new URL(text).protocol)
}
