/** What WHATWG calls PostgreSQL's encodings, where the names are not alike. Those that are missing are read as UTF-8. */
const labels: Readonly<Record<string, string>> = {
  LATIN2: 'iso-8859-2',
  LATIN3: 'iso-8859-3',
  LATIN4: 'iso-8859-4',
  LATIN5: 'iso-8859-9',
  LATIN6: 'iso-8859-10',
  LATIN7: 'iso-8859-13',
  LATIN8: 'iso-8859-14',
  LATIN9: 'iso-8859-15',
  LATIN10: 'iso-8859-16',
  ISO_8859_5: 'iso-8859-5',
  ISO_8859_6: 'iso-8859-6',
  ISO_8859_7: 'iso-8859-7',
  ISO_8859_8: 'iso-8859-8',
  KOI8R: 'koi8-r',
  KOI8U: 'koi8-u',
  WIN866: 'ibm866',
  WIN874: 'windows-874',
  EUC_JP: 'euc-jp',
  EUC_KR: 'euc-kr',
  EUC_CN: 'gbk',
}

/**
 * Reads a script that pg_restore has printed: it is in the encoding of the dumped database, which it names itself.
 * Source: https://www.postgresql.org/docs/current/multibyte.html
 */
export function decodeScript(bytes: Buffer): string {
  const name = /^SET client_encoding = '(\w+)';$/m.exec(bytes.toString('latin1'))?.[1] ?? 'UTF8'
  if (name === 'LATIN1') return bytes.toString('latin1')
  const label = /^WIN125\d$/.test(name) ? name.replace('WIN', 'windows-') : labels[name]
  return label === undefined ? bytes.toString('utf8') : new TextDecoder(label).decode(bytes)
}
