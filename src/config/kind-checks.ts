import { LifeboatError } from '../domain/errors.ts'

export const wrong = (message: string, hint?: string) =>
  new LifeboatError('usage-invalid', message, hint ? { hint } : {})

/** A check of a text by a rule of its own. */
export const matching = (rule: (text: string) => boolean, message: string, hint?: string) => (value: unknown) => {
  if (!rule(String(value))) throw wrong(message, hint)
}

/** Of a server: paths are put behind it, and nothing secret stands in it. */
export function isServerUrl(text: string): boolean {
  if (!isHttpUrl(text) || /[?#]/.test(text)) return false
  const { username, password } = new URL(text)
  return username === '' && password === ''
}

export function isHttpUrl(text: string): boolean {
  return URL.canParse(text) && ['http:', 'https:'].includes(new URL(text).protocol)
}
