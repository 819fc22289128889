/** Whether a text is a tag of S3, as key=value. The first `=` ends the key. Source: Amazon S3 User Guide, "Categorizing your objects using tags" */
export function isTag(text: string): boolean {
  const [, key = '', value = ''] = /^([^=]*)=(.*)$/s.exec(text) ?? []
  const isMadeOf = (part: string): boolean => /^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$/u.test(part)
  const fits = key.length > 0 && key.length <= 128 && value.length <= 256
  return fits && !/^aws:/i.test(key) && isMadeOf(key) && isMadeOf(value)
}
