import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import postalMime from 'postal-mime'
import { SMTPServer, type SMTPServerSession } from 'smtp-server'
import { runProgram } from '../../src/postgres/programs.ts'

declare global {
  // What postal-mime says of itself names the types of a browser; Node has the same by import alone.
  type TextDecoder = import('node:util').TextDecoder
  type TextEncoder = import('node:util').TextEncoder
}

/** A mail as it came. */
export interface Mail {
  readonly from: string
  readonly to: readonly string[]
  readonly subject: string
  /** Without what the line ends of mails and the blank lines at its end are. */
  readonly text: string
  /** Null: it has no such part. */
  readonly html: string | null
  /** As it was sent, encoded. */
  readonly raw: string
}

/** A real SMTP server on 127.0.0.1: it takes mails from one account alone, encrypted (STARTTLS), and keeps them. */
export interface MailServer {
  readonly port: number
  /** Of its certificate. */
  readonly caFile: string
  /** What has come so far. */
  mails(): Promise<readonly Mail[]>
  /** Names and passwords that were tried. */
  readonly logins: readonly string[]
  stop(): Promise<void>
}

/** `directory` is there; its certificate goes there. */
export async function startMailServer(
  directory: string,
  account: { readonly username: string; readonly password: string },
): Promise<MailServer> {
  const [keyFile, caFile] = [join(directory, 'mail-key.pem'), join(directory, 'mail-ca.pem')]
  const made = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', keyFile, '-out', caFile, '-days', '2']
  const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1']
  await runProgram({ program: 'openssl', args: [...made, ...subject] })
  const taken: { readonly envelope: SMTPServerSession['envelope']; readonly raw: Buffer }[] = []
  const logins: string[] = []
  const server = new SMTPServer({
    key: await readFile(keyFile),
    cert: await readFile(caFile),
    onAuth({ username = '', password = '' }, _session, callback) {
      logins.push(`${username}:${password}`)
      if (username === account.username && password === account.password) callback(null, { user: username })
      else callback(new Error('no such account'))
    },
    onData(stream, { envelope }, callback) {
      const chunks: Buffer[] = []
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      stream.on('end', () => {
        taken.push({ envelope, raw: Buffer.concat(chunks) })
        callback()
      })
    },
  })
  const listening = server.listen(0, '127.0.0.1')
  await once(listening, 'listening')
  return {
    port: (listening.address() as AddressInfo).port,
    caFile,
    mails: () =>
      Promise.all(
        taken.map(async ({ envelope, raw }) => {
          const { subject = '', text = '', html } = await postalMime.parse(raw)
          return {
            from: envelope.mailFrom === false ? '' : envelope.mailFrom.address,
            to: envelope.rcptTo.map(({ address }) => address),
            subject,
            text: text.replaceAll('\r\n', '\n').trimEnd(),
            html: html ?? null,
            raw: raw.toString('latin1'),
          }
        }),
      ),
    logins,
    stop: () => new Promise((resolve) => server.close(resolve)),
  }
}
