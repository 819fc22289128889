import { isIP } from 'node:net'
import { normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import { LifeboatError } from '../domain/errors.ts'
import { quote } from './units.ts'

/**
 * An address to listen on: `host:port`, `[IPv6]:port` or `:port` for every interface. Port 0 lets the system choose.
 *
 * Throws `usage-invalid`.
 */
export function parseListen(text: string): { host: string; port: number } {
  const match = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{0,253})):(\d{1,5})$/.exec(text)
  const [, v6, name = '', digits = ''] = match ?? []
  const port = Number(digits)
  const host = v6 ?? (name === '' ? '0.0.0.0' : name)
  const dottedNumber = v6 === undefined && /^[\d.]+$/.test(host)
  if (match === null || port > 65_535 || (v6 !== undefined && isIP(v6) !== 6) || (dottedNumber && isIP(host) !== 4)) {
    throw new LifeboatError('usage-invalid', `${quote(text)} is not an address to listen on`, {
      hint: 'Write host:port, e.g. 127.0.0.1:10187 or [::1]:10187, or :10187 for every interface.',
    })
  }
  return { host, port }
}

/**
 * The absolute path of a `file://` URL (RFC 8089), normalized, without a slash at the end. The message never repeats the
 * URL: other kinds of URL may carry credentials.
 *
 * Throws `usage-invalid`.
 */
export function parseFileUrl(text: string): string {
  const hint = 'Write three slashes and an absolute directory, e.g. file:///var/backups/lifeboat.'
  const fail = (message: string, advice = hint) => new LifeboatError('usage-invalid', message, { hint: advice })
  if (!text.startsWith('file://')) throw fail('is not a file:// url')
  // The URL parser would silently drop tabs and newlines, and turn backslashes into slashes: another directory than written.
  if (/[\p{Cc}\\]/u.test(text)) throw fail('holds a control character or a backslash')
  if (!URL.canParse(text)) throw fail('is not a file:// url')
  const url = new URL(text)
  if (url.host !== '' && !text.startsWith('file:///'))
    throw fail('names a host: what follows file:// must begin with /')
  if (/[?#]/.test(text)) throw fail('holds a ? or a #', 'In a url write %3F for ? and %23 for #.')
  if (/%(?:2f|00)/i.test(text) || !decodes(url.pathname)) throw fail('holds a % that stands for no character of a path')
  const path = normalize(fileURLToPath(url)).replace(/\/+$/, '')
  if (path === '') throw fail('is the root directory', 'Give the repository a directory of its own.')
  return path
}

/** The place of a repository: a directory, or a bucket and what stands before every key in it (empty, or ends in a slash). */
export type RepositoryPlace = { readonly path: string } | { readonly bucket: string; readonly prefix: string }

/**
 * Reads the url of a repository: `file:///directory`, `s3://bucket` or `s3://bucket/prefix`, which is taken literally.
 *
 * Throws `usage-invalid`, without the url: it may carry credentials.
 */
export function parseRepositoryUrl(text: string): RepositoryPlace {
  if (!/^s3:/i.test(text)) return { path: parseFileUrl(text) }
  const fail = (message: string) =>
    new LifeboatError('usage-invalid', message, {
      hint: 'Write s3://bucket or s3://bucket/prefix, e.g. s3://backups/prod.',
    })
  const match = /^s3:\/\/([^/]*)(?:\/(.*))?$/s.exec(text)
  const [, bucket = '', prefix = ''] = match ?? []
  if (match === null) throw fail('is not an s3:// url')
  // https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html; others and old buckets allow a little more.
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$/.test(bucket))
    throw fail('does not begin with the name of a bucket')
  const segments = prefix.replace(/\/$/, '').split('/')
  if (prefix !== '' && segments.some((segment) => segment === '' || segment === '.' || segment === '..')) {
    throw fail('has a prefix with an empty, . or .. part')
  }
  if (/[\p{Cc}\\?#%]/u.test(prefix) || !prefix.isWellFormed()) {
    throw fail('has a prefix with a control character, a backslash, or one of ? # %')
  }
  return { bucket, prefix: prefix === '' ? '' : `${segments.join('/')}/` }
}

function decodes(pathname: string): boolean {
  try {
    decodeURIComponent(pathname)
    return true
  } catch {
    return false
  }
}
