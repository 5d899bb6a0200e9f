"""Its machines and people: hosts, VMs, users, and what has changed since they were entered."""

import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from typing import NamedTuple

Row = dict[str, object]


class Site(NamedTuple):
    datacenter: str
    domain: str
    octet: int
    """Second byte of every IPv4 address at the site."""
    vlan: str
    """How the people there write a VLAN."""


SITES = {
    "rtm": Site("Rotterdam Waalhaven", "rtm.harbourline.example", 20, "1{id}-{kind}"),
    "pun": Site("Pune Hinjawadi", "pun.harbourline.example", 40, "VLAN2{id}"),
    "gdn": Site("Gdańsk Osowa", "gdn.harbourline.example", 60, "3{id} ({kind})"),
}
VLANS = {"inf": 10, "srv": 20, "db": 30, "dmz": 40, "wms": 50, "vdi": 60, "lab": 70, "v6": 90}
POOLS = {
    "rtm": ("rtm-esx01", "rtm-esx02", "rtm-esx03"),
    "rtm/lab": ("rtm-esx11",),
    "rtm/kvm": ("rtm-kvm01",),
    "rtm/edge": ("rtm-ntx01",),
    "pun": ("PUN-HV01", "PUN-HV02"),
    "pun/lab": ("PUN-HV03",),
    "gdn": ("gdn-pve1", "gdn-pve2"),
    "gdn/lab": ("gdn-pve3",),
}
MAC_PREFIXES = {
    "VMware vSphere": "00:50:56",
    "Proxmox": "bc:24:11",
    "Hyper-V": "00:15:5d",
    "KVM": "52:54:00",
    "Other": "50:6b:8d",
}
DEPARTMENTS = {
    "OP": "Operations",
    "FI": "Finance",
    "WS": "Warehouse Systems",
    "CT": "Customs & Trade",
    "DP": "Data Platform",
    "IN": "Infrastructure",
    "HR": "HR",
    "CP": "Customer Portal",
}
ENVIRONMENTS = {"prd": "production", "stg": "staging", "dev": "development", "tst": "test"}

# name | type | version | status | environment | vcpu/ram/disk | description
HYPERVISORS = """
rtm-esx01 | VMware vSphere | ESXi 8.0 U3 | active | prd | 128/2048/30720 | Dell R760, row B rack 4
rtm-esx02 | VMware vSphere | ESXi 8.0 U3 | active | prd | 128/2048/30720 | Dell R760, row B rack 5
rtm-esx03 | VMware vSphere | ESXi 8.0 U3 | active | prd | 128/2048/30720 | Dell R760, row C rack 2
rtm-esx11 | VMware vSphere | ESXi 7.0 U3 | active | dev | 96/1024/15360 | Former production host
rtm-kvm01 | KVM | libvirt 10.0 on Ubuntu 24.04 | active | dev | 64/512/8192 | Build farm
rtm-ntx01 | Other | Nutanix AOS 6.8 | active | prd | 32/256/4096 | In the warehouse, by dock 14
PUN-HV01 | Hyper-V | Windows Server 2022 | active | prd | 96/1024/20480 | HPE DL380, failover pair
PUN-HV02 | Hyper-V | Windows Server 2022 | active | prd | 96/1024/20480 | HPE DL380, failover pair
PUN-HV03 | Hyper-V | Windows Server 2019 | active | tst | 64/768/12288 | UAT and development
PUN-HV-OLD | Hyper-V | Windows Server 2012 R2 | decommissioned | prd | 24/192/4096 | Sold for parts
gdn-pve1 | Proxmox | Proxmox VE 8.3 | active | prd | 96/768/30720 | Ceph node 1
gdn-pve2 | Proxmox | Proxmox VE 8.3 | active | prd | 96/768/30720 | Ceph node 2
gdn-pve3 | Proxmox | Proxmox VE 8.3 | active | stg | 96/768/30720 | Ceph node 3, no production
gdn-pve4 | Proxmox | Proxmox VE 8.4 | inactive | prd | 96/768/30720 | Racked, waits for its optics
"""

# username | role | department
PEOPLE = """
annelies.devries | admin | Infrastructure
prakash.deshpande | readwrite | Infrastructure
lukasz.kowalczyk | readwrite | Infrastructure
femke.bakker | readwrite | Data Platform
ingrid.solheim | auditor | Finance
mehmet.yildiz | read | Warehouse Systems
sneha.kulkarni | read | Finance
agnieszka.nowak | read | Customs & Trade
tomas.ferreira | read | Customer Portal
"""
MAIL = "@harbourline.example"

# The first of each answers for most of the department's machines; some never had an account.
OWNERS = {
    "OP": ("ruud.hoekstra" + MAIL, "shreya.joshi" + MAIL, "Operations desk"),
    "FI": ("sneha.kulkarni" + MAIL, "SAP Basis team", "bert.claessens" + MAIL),
    "WS": ("mehmet.yildiz" + MAIL, "WMS support", "karolina.wisniewska" + MAIL),
    "CT": ("agnieszka.nowak" + MAIL, "youssef.elamrani" + MAIL),
    "DP": ("femke.bakker" + MAIL, "arjun.nair" + MAIL, "Data Platform on-call"),
    "IN": (
        "annelies.devries" + MAIL,
        "prakash.deshpande" + MAIL,
        "lukasz.kowalczyk" + MAIL,
        "Infrastructure",
    ),
    "IN/pun": ("prakash.deshpande" + MAIL, "Infrastructure"),
    "IN/gdn": ("lukasz.kowalczyk" + MAIL, "Infrastructure"),
    "HR": ("marieke.smit" + MAIL, "HR systems"),
    "CP": ("tomas.ferreira" + MAIL, "Portal squad", "nikhil.patil" + MAIL),
}

# The usual spelling first, then what else was typed over the years.
SYSTEMS = {
    "w12": ("Windows Server 2012 R2", "Windows 2012 R2 Std"),
    "w16": ("Windows Server 2016", "Windows Server 2016 Standard"),
    "w19": ("Windows Server 2019 Datacenter", "Windows Server 2019"),
    "w22": ("Windows Server 2022 Datacenter", "Windows Server 2022", "Win2022 DC"),
    "w10": ("Windows 10 Enterprise LTSC 2021",),
    "u20": ("Ubuntu 20.04 LTS",),
    "u22": ("Ubuntu 22.04 LTS", "Ubuntu 22.04.5 LTS"),
    "u24": ("Ubuntu 24.04 LTS",),
    "rh7": ("RHEL 7.9",),
    "rh8": ("RHEL 8.10", "Red Hat Enterprise Linux 8.10"),
    "rh9": ("RHEL 9.4",),
    "ol8": ("Oracle Linux 8.9",),
    "d11": ("Debian 11",),
    "d12": ("Debian 12", "Debian 12 (bookworm)"),
    "sl15": ("SUSE SLES 15 SP5", "SLES 15 SP5"),
    "c7": ("CentOS 7",),
    "bsd": ("FreeBSD 14.1",),
}

# Two lines each: name, count, pool, environment, VLAN, systems, vcpu/ram/disk, department, cluster,
# application; then the description, in which {i} of {n} is the place in the sequence.
MACHINES = """
hlr-prd-sapap{:02} 8 rtm prd srv sl15 8/64/300 FI SAP-PRD SAP S/4HANA
S/4HANA dialog instance {i} of {n}
hlr-prd-hana{:02} 2 rtm prd db sl15 24/384/2560 FI SAP-PRD SAP S/4HANA
HANA database, system replication pair, node {i}
hlr-prd-sapcs01 1 rtm prd srv sl15 4/16/120 FI SAP-PRD SAP S/4HANA
ASCS and enqueue replication
hlr-qas-sap{:02} 3 rtm/lab stg lab sl15 8/64/500 FI SAP-QAS SAP S/4HANA
SAP quality assurance, refreshed from production every quarter
hlr-dev-sap{:02} 2 rtm/lab dev lab sl15 4/32/400 FI - SAP S/4HANA
SAP development, client 100
hlr-prd-wms{:02} 10 rtm prd wms rh8,rh9 4/16/80 WS WMS-RTM Warehouse management
WMS application node {i}, behind lb-wms
hlr-prd-wmsdb{} 3 rtm prd db ol8 16/128/2048 WS WMSRAC Oracle 19c
Oracle RAC node {i} of {n} for the warehouse
hlr-acc-wms{:02} 4 rtm/lab stg lab rh8 4/16/80 WS WMS-ACC Warehouse management
Acceptance, one release ahead of production
hlr-tst-wms{:02} 5 rtm/lab tst lab rh8,rh9 2/8/60 WS - Warehouse management
Test bench for pick-by-voice and label printing
hlr-edge-scan{:02} 6 rtm/edge prd wms u20,u22 2/4/40 WS SCAN-RTM Handheld scanner gateway
Terminal gateway for the handhelds in hall {i}
hlr-prd-app{:02} 14 rtm prd srv u22,u22,u20 4/8/60 CP - Customer portal
Portal back end {i}
hlr-prd-web{:02} 6 rtm prd dmz d12,d11 2/4/30 CP WEB-EDGE Customer portal
nginx in front of the portal, node {i} of {n}
hlr-prd-api{:02} 6 rtm prd srv u22 4/8/60 CP TT-API Track & trace API
Shipment status for customers and carriers
hlr-acc-web{:02} 3 rtm/lab stg lab d12 2/4/30 CP - Customer portal
Acceptance of the portal, reachable from the office only
hlr-dev-portal{:02} 8 rtm/lab dev lab u22,u24 2/8/60 CP - Customer portal
Feature environment {i}, rebuilt on demand
hlr-prd-pg{:02} 3 rtm prd db d12 8/64/1024 DP pg-core PostgreSQL
Patroni member {i} of {n}, shared cluster
hlr-prd-etcd{:02} 3 rtm prd db d12 2/4/30 DP pg-core etcd
Consensus store of pg-core
hlr-acc-pg{:02} 3 rtm/lab stg lab d12 4/16/300 DP pg-acc PostgreSQL
Acceptance copy of pg-core, masked data
hlr-prd-kafka{:02} 5 rtm prd srv rh9 8/32/1500 DP kafka-prd Kafka
Broker {i} of {n}, KRaft
hlr-tst-kafka{:02} 3 rtm/lab tst lab rh9 2/8/200 DP kafka-tst Kafka
Test broker, retention one day
hlr-k8s-cp{} 3 rtm prd srv u22 4/16/80 DP k8s-rtm Kubernetes
Control plane {i}
hlr-k8s-w{:02} 9 rtm prd srv u22,u24 16/64/250 DP k8s-rtm Kubernetes
Worker {i} of {n}
hlr-prd-dwh{:02} 3 rtm prd db w22 8/64/2000 DP - Data warehouse
SQL Server with the reporting cubes
hlr-prd-edi{:02} 4 rtm prd dmz w19 4/16/200 CT EDI-RTM EDI
EDIFACT and AS2 exchange with carriers
hlr-prd-cust{:02} 3 rtm prd dmz rh8 4/16/120 CT AGS Customs gateway
Declarations to Dutch customs, node {i}
hlr-acc-cust{:02} 2 rtm/lab stg lab rh8 2/8/80 CT - Customs gateway
Connected to the authority's conformance system
hlr-prd-mq{:02} 3 rtm prd srv rh8 4/16/150 OP MQ-RTM IBM MQ
Queue manager {i} of {n}, native HA
hlr-prd-gate{:02} 3 rtm prd dmz d12 4/8/200 OP - Gate automation
Number plate and container code recognition, lane {i}
hlr-lb{:02} 2 rtm prd dmz d12 2/4/30 IN lb-rtm HAProxy
Load balancer {i}, keepalived
hlr-prd-redis{} 3 rtm prd srv u22 2/16/40 CP redis-portal Redis
Session cache of the portal, Sentinel
hlr-prd-es{:02} 5 rtm prd srv d12 8/32/1000 DP es-rtm Elasticsearch
Shipment search, data node {i} of {n}
hlr-prd-bi{:02} 3 rtm prd srv w22 4/16/150 FI - Power BI gateway
On-premises data gateway
hlr-dev-edi{:02} 3 rtm/lab dev lab w19 2/8/100 CT - EDI
Mapping development
hlr-ntp{} 2 rtm prd inf d12 1/1/16 IN - NTP
Stratum 2
hlr-lic01 1 rtm prd inf w16 2/4/60 IN - Licence server
FlexLM and RDS licences
PUN-BI-{:02} 2 pun prd srv w22 4/16/200 FI - Power BI gateway
On-premises data gateway, Pune
PUN-HRMS-UAT{} 2 pun/lab stg lab rh8 2/8/100 HR - HR management
Acceptance with made-up staff
gdn-gate{} 2 gdn prd dmz d12 4/8/150 OP - Gate automation
Truck appointment kiosk, lane {i}
gdn-kafka{} 3 gdn prd srv d12 4/16/600 DP kafka-gdn Kafka
Broker {i} of {n}, mirrors from kafka-prd
hlr-dc{:02} 3 rtm prd inf w22 2/8/80 IN - Active Directory
Domain controller of corp.harbourline.example
hlr-fs{:02} 3 rtm prd srv w19 4/16/6000 IN - File server
Department shares, DFS member {i}
hlr-prt{:02} 2 rtm prd srv w16,w19 2/8/100 IN - Print server
Office printers and the label printers of halls A to D
hlr-ctx{:02} 16 rtm prd vdi w19,w19,w22 8/48/120 OP CTX-RTM Citrix
Session host {i}, non-persistent
hlr-ctxddc{:02} 2 rtm prd srv w22 4/8/100 IN CTX-RTM Citrix
Delivery controller {i}
hlr-bld{:02} 12 rtm/kvm dev lab u22,u24 8/16/200 IN runners-rtm Build runner
GitLab runner, shell and container executors
hlr-git01 1 rtm prd srv u22 8/32/1200 IN - GitLab
Source code and container registry of all three sites
hlr-jira{:02} 2 rtm prd srv rh8 4/24/200 IN - Jira
Jira Data Center node {i}
hlr-mon{:02} 3 rtm prd inf d12 4/16/500 IN - Grafana
Grafana, Prometheus and alerting
hlr-bkp{:02} 3 rtm prd inf w22 8/16/400 IN - Backup
Backup proxy {i}, hot-add
hlr-hr{:02} 2 rtm prd srv w19 4/16/200 HR - Payroll
Payroll and time recording, holds personal data
hlr-ns{} 2 rtm prd v6 bsd 1/2/20 IN - DNS
Authoritative name server {i}, reachable over IPv6 only from outside
PUN-DC-{:02} 2 pun prd inf w19 2/8/80 IN - Active Directory
Domain controller, Pune
PUN-SQL-{:02} 6 pun prd db w19,w16 8/64/1500 FI SQL-AG1 SQL Server
SQL Server 2019, availability group AG1, replica {i}
PUN-FS-{:02} 2 pun prd srv w19 4/16/4000 IN - File server
Shares of the shared service centre
PUN-PRT-01 1 pun prd srv w16 2/4/80 IN - Print server
All printers of floors 3 and 4
PUN-APP-{:02} 12 pun prd srv w19,w22 4/16/120 OP - Transport management
TMS application server {i}
PUN-WEB-{:02} 4 pun prd dmz w22 2/8/80 OP TMS-WEB Transport management
IIS for carrier bookings, node {i} of {n}
PUN-RDS-{:02} 10 pun prd vdi w19 8/32/150 OP RDS-PUN Remote Desktop Services
Session host {i} for planning and dispatch
PUN-FIN-{:02} 6 pun prd srv w19,w16 4/16/150 FI - Invoice processing
Scanning, OCR and posting of carrier invoices
PUN-HRMS-{:02} 3 pun prd srv rh8 4/16/150 HR - HR management
HRMS, node {i}; attendance terminals report here
PUN-EDI-{:02} 3 pun prd dmz w19 4/8/120 CT - EDI
ICEGATE filing and carrier messages
PUN-JMP-{:02} 2 pun prd inf w22 2/8/80 IN - Jump host
Administration jump host, MFA in front
PUN-WSUS-01 1 pun prd inf w19 4/8/1000 IN - Patch management
WSUS, upstream of Gdańsk
PUN-UAT-{:02} 8 pun/lab stg lab w19,w22 4/16/120 OP - Transport management
User acceptance, release train {i}
PUN-TST-{:02} 14 pun/lab tst lab w19,w22,w10 2/8/80 OP - Transport management
Automated regression tests
PUN-DEV-{:02} 18 pun/lab dev lab w22,u22,u22 4/8/100 OP - Transport management
Developer machine {i}
PUN-BLD-{:02} 6 pun/lab dev lab w22 8/16/250 IN runners-pun Build runner
MSBuild runner, Visual Studio 2022 build tools
PUN-QA-ORA-{:02} 3 pun/lab tst lab ol8,rh7 4/32/600 WS - Oracle 19c
Oracle for WMS regression runs
gdn-wms{} 6 gdn prd wms rh8 4/16/80 WS WMS-GDN Warehouse management
WMS node {i}, Gdańsk terminal
gdn-wmsdb{} 2 gdn prd db ol8 8/64/1200 WS WMS-GDN Oracle 19c
Data Guard pair, node {i}
gdn-puesc{} 2 gdn prd dmz d12 2/8/80 CT PUESC Customs gateway
Declarations to Polish customs (PUESC), node {i}
gdn-pg{} 3 gdn prd db d12 8/32/600 DP pg-gdn PostgreSQL
Patroni member {i} of {n}
gdn-etl{:02} 6 gdn prd srv d12,d11 8/16/200 DP - Airflow
Airflow worker {i}
gdn-spark{:02} 8 gdn prd srv u22 16/48/500 DP spark-gdn Spark
Spark worker {i} of {n}
gdn-minio{} 4 gdn prd srv d12 4/16/3000 DP minio-gdn Object storage
MinIO node {i}, erasure coded
gdn-loki{} 3 gdn prd inf d12 4/16/800 IN - Grafana
Log store, 90 days
gdn-dc{} 2 gdn prd inf w22 2/8/80 IN - Active Directory
Domain controller, Gdańsk
gdn-fs1 1 gdn prd srv d12 4/8/5000 IN - File server
Samba, home directories
gdn-print1 1 gdn prd srv d11 2/4/60 WS - Print server
CUPS, Zebra label printers
gdn-vpn{} 2 gdn prd v6 bsd 2/4/30 IN - VPN
WireGuard concentrator {i}
gdn-runner-{} 10 gdn/lab dev lab d12,u24 8/16/150 IN runners-gdn Build runner
Ephemeral job runner {i}
gdn-dev-{:02} 16 gdn/lab dev lab d12,u22 4/8/80 DP - Development
Data engineering sandbox {i}
gdn-stg-portal{} 4 gdn/lab stg lab u22 2/8/60 CP - Customer portal
Staging of the portal, load test target
gdn-stg-spark{} 4 gdn/lab stg lab u22 8/32/300 DP spark-stg Spark
Staging of the Spark cluster
gdn-sim{:02} 6 gdn/lab tst lab d12 4/8/60 WS - Crane simulator
Emulates the terminal's cranes for WMS tests
hlr-lab-win{:02} 8 rtm/lab tst lab w22,w10 2/8/80 IN - Patch management
First ring: gets every update a week early
zeus 1 rtm prd srv rh7 4/16/500 OP - Berth planning
Berth planning, bought in 2014, vendor gone
hermes 1 rtm prd dmz d11 2/4/60 IN - Mail relay
Outgoing mail of printers, scanners and applications
apollo 1 rtm prd db rh7 8/48/900 FI - Oracle 11g
Ledger archive, read only
atlas 1 rtm prd srv w12 4/16/2000 FI - Document archive
Scanned freight documents up to 2018
hera 1 rtm prd srv w12 2/8/120 HR - Access control
Door controllers of the Waalhaven office
titan 1 rtm prd srv c7 4/8/200 WS - Conveyor control
Talks to the conveyor PLCs of hall B
NAV2013 1 rtm prd srv w12 4/16/300 FI - Dynamics NAV
Old bookkeeping, kept for the tax office
oude-nas 1 rtm prd srv c7 2/4/4000 IN - File server
Predecessor of hlr-fs01
wiki-old 1 rtm prd srv d11 2/4/40 IN - Wiki
Wiki before the move to Confluence
kopie-van-hlr-prd-app02 1 rtm/lab tst lab u20 4/8/60 CP - Customer portal
Clone made to chase a memory leak
test-niet-weggooien 1 rtm/lab tst lab u20 2/4/40 IN - Development
Nobody remembers
WIN-7QK2LR8V3PD 1 pun/lab tst lab w16 2/4/60 OP - Development
Never renamed after installation
PUN-SQL-03_clone 1 pun/lab tst lab w16 8/32/1500 FI - SQL Server
Restore test
PUNTALLY 1 pun prd srv w12 2/8/200 FI - Tally
Local statutory accounts
jenkins-gdn 1 gdn/lab dev lab d11 4/8/300 IN - Jenkins
Build server before GitLab
bartek-test 1 gdn/lab tst lab d11 1/2/20 DP - Development
Scratch machine
"""

_OUT_OF_SUPPORT = (
    "Out of vendor support. Isolated by firewall rule 2204: only the jump hosts get in.\n"
    "Replacement is on the roadmap, see INFRA-1187."
)
STORIES: dict[str, Row] = {
    "zeus": {
        "notes": "Do NOT reboot while a vessel is alongside.\n"
        "Start order: 1. licence daemon  2. planner  3. web front end\n"
        "The licence is bound to the MAC address, so no re-adding of the network card."
    },
    "atlas": {"notes": _OUT_OF_SUPPORT},
    "hera": {
        "notes": _OUT_OF_SUPPORT + "\nLicence on a USB dongle: never migrate it to another host."
    },
    "NAV2013": {"notes": _OUT_OF_SUPPORT, "power_state": "off", "status": "inactive"},
    "PUNTALLY": {"notes": _OUT_OF_SUPPORT},
    "titan": {"notes": "Reachable from the PLC network only. Call the shift lead of hall B first."},
    "apollo": {"notes": "Read only since the SAP migration. Kept for ten years."},
    "test-niet-weggooien": {"owner": None, "department": None, "notes": "Asked around twice."},
    "WIN-7QK2LR8V3PD": {"owner": None, "hostname": None, "power_state": "unknown"},
    "oude-nas": {"status": "decommissioned", "notes": "Data moved to hlr-fs01, checksums kept."},
    "kopie-van-hlr-prd-app02": {"status": "decommissioned", "notes": "Leak found, see CP-3320."},
    "PUN-SQL-03_clone": {"status": "decommissioned", "notes": "Restore test passed."},
    "jenkins-gdn": {"status": "decommissioned", "notes": "Last job migrated to GitLab."},
    "bartek-test": {"status": "decommissioned", "owner": None, "notes": "Bartek has left."},
}

# By operating system, environment or application; {ref} is a ticket number, {day} a weekday.
NOTES = {
    "": (
        "Backup: daily, 30 restore points. Last restore test OK ({ref}).",
        "Excluded from automatic patching, agree a window with the owner first.",
        "Patch window: {day} 22:00-02:00 local time.",
        "Disk grown after the alert in {ref}; check the trend again in spring.",
        "Moved from the old SAN, {ref}.\nThin provisioned now.",
        "Right-sizing proposed in {ref}, owner has not answered yet.",
        "Snapshots older than 3 days are removed by the nightly job.",
    ),
    "Windows": (
        "Patched by WSUS ring 2, reboots on {day} night.",
        "Service account is a gMSA, nothing to rotate by hand.",
        "C: is tight, move the page file to D: before the next feature update.",
        "RDP only from the jump hosts.\nLocal Administrator is disabled.",
    ),
    "Linux": (
        "Managed by Ansible, role in infra/playbooks; do not edit /etc by hand.",
        "unattended-upgrades is on; kernel reboots on {day} through kured or cron.",
        "Firewall by nftables, rules from the inventory group.\nNode exporter on 9100.",
        "LVM, /var has its own volume. 20 GB left in the volume group.",
    ),
    "development": ("May be rebuilt at any time, no backup.", "Powered off at night to save RAM."),
    "test": (
        "Needed until the release is signed off ({ref}).",
        "No backup, rebuild from template.",
    ),
    "staging": ("Same sizing as production on paper, half the RAM in fact.",),
    "Oracle 19c": ("Licence: counts towards the 8 processor cores, ask before you add vCPU.",),
    "SAP S/4HANA": ("Stop with sapcontrol before a reboot.\nMonitored by Solution Manager.",),
    "Kafka": ("One broker at a time, wait until under-replicated partitions is 0.",),
    "PostgreSQL": ("Switch over with patronictl before maintenance.\npgBackRest to gdn-minio.",),
    "Citrix": ("Drain first, golden image from {day}. Never patch in place.",),
    "Active Directory": ("Do not snapshot. Do not clone. System state backup only.",),
    "Customs gateway": ("Maintenance only after notice to the customs helpdesk, 5 working days.",),
    "EDI": ("Certificates of trading partners expire all over the year, see the EDI calendar.",),
}
TAGS = ("tier-1", "tier-2", "tier-3", "backup-gold", "backup-silver", "gdpr", "iso27001", "ring-2")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Saturday", "Sunday")

OVERDUE = (-74, -41, -23, -12, -6, -3, -1)
SOON = (0, 1, 2, 3, 5, 6, 7, 9, 11, 14)
LAST_DAY = 730
"""Expiry dates spread over 24 months."""


class Machine(NamedTuple):
    """One line of the table, for all members of the sequence."""

    pattern: str
    members: int
    pool: str
    environment: str
    vlan: str
    systems: list[str]
    size: list[int]
    department: str
    cluster: str | None
    application: str
    description: str


class Place(NamedTuple):
    """What a machine got from the site that it runs at."""

    hypervisor: str
    ip_address: str
    mac_address: str


def hypervisors() -> list[Row]:
    """Return the hosts, as hypervisor fields of the inventory."""
    return [_hypervisor(line) for line in HYPERVISORS.strip().splitlines()]


def people() -> list[Row]:
    """Return the users: username, email, role, department."""
    lines = (line.split(" | ") for line in PEOPLE.strip().splitlines())
    return [
        {"username": name, "email": name + MAIL, "role": role, "department": department}
        for name, role, department in lines
    ]


def vms(today: date, seed: int = 2026) -> list[Row]:
    """Return 412 VMs; `hypervisor` is the host's name. Only expiry dates depend on `today`."""
    rng = random.Random(seed)  # noqa: S311 - a sample, nothing here is secret
    network = _Network(rng)
    rows = [row for machine in _machines() for row in _sequence(machine, network, rng)]
    _retire(rows, rng)
    _forget_owners(rows, rng)
    for row in rows:
        row["power_state"] = _power_state(row, rng)
        row.update(STORIES.get(str(row["vm_name"]), {}))
    _expire(rows, today, rng)
    return rows


def edits(today: date, seed: int = 2026) -> list[tuple[str, Row]]:
    """Return some 60 later changes in order, each a real change to the row as it then is."""
    rng = random.Random(seed + 1)  # noqa: S311 - a sample, nothing here is secret
    rows = [row for row in vms(today, seed) if row["vm_name"] not in RETIRED]
    changes = [
        *_power_changes(rows, rng),
        *_handovers(rows, rng),
        *_extensions(rows, today, rng),
        *_remarks(rows, rng),
        *_moves(rows, rng),
        *_upgrades(rows, rng),
    ]
    rng.shuffle(changes)
    return changes


RETIRED = (
    "oude-nas",
    "kopie-van-hlr-prd-app02",
    "PUN-SQL-03_clone",
    "jenkins-gdn",
    "bartek-test",
)


def retired() -> list[str]:
    """Return the names of the VMs that end in the trash."""
    return list(RETIRED)


def _hypervisor(line: str) -> Row:
    name, kind, version, status, environment, size, description = line.split(" | ")
    vcpu, ram, disk = map(int, size.split("/"))
    return {
        "name": name,
        "hostname": f"{name.lower()}.{SITES[name[:3].lower()].domain}",
        "type": kind,
        "version": version,
        "description": description,
        "status": status,
        "environment": ENVIRONMENTS[environment],
        "vcpu": vcpu,
        "ram_gb": ram,
        "disk_gb": disk,
    }


def _machines() -> Iterator[Machine]:
    lines = iter(MACHINES.strip().splitlines())
    for line, description in zip(lines, lines, strict=True):
        name, count, pool, env, vlan, systems, size, department, cluster, app = line.split(None, 9)
        yield Machine(
            name,
            int(count),
            pool,
            ENVIRONMENTS[env],
            vlan,
            systems.split(","),
            [int(part) for part in size.split("/")],
            department,
            None if cluster == "-" else cluster,
            app,
            description,
        )


class _Network:
    """Deals out hosts in turn, addresses upwards from .11 and MAC addresses at random."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._types = {str(host["name"]): str(host["type"]) for host in hypervisors()}
        self._turns: defaultdict[str, int] = defaultdict(int)
        self._last: defaultdict[tuple[str, str], int] = defaultdict(lambda: 10)
        self._macs: set[str] = set()

    def place(self, machine: Machine) -> Place:
        hosts = POOLS[machine.pool]
        self._turns[machine.pool] += 1
        host = hosts[self._turns[machine.pool] % len(hosts)]
        address = self._address(machine.pool[:3], machine.vlan)
        return Place(host, address, self._mac(MAC_PREFIXES[self._types[host]]))

    def leave_gap(self, machine: Machine) -> None:
        """Skip a few addresses, as after machines that are long gone."""
        self._last[machine.pool[:3], machine.vlan] += self._rng.choice((0, 0, 1, 2))

    def _address(self, site: str, vlan: str) -> str:
        self._last[site, vlan] += 1
        octet, third, last = SITES[site].octet, VLANS[vlan], self._last[site, vlan]
        if vlan == "v6":
            return f"2001:db8:{octet}:{third}::{last:x}"
        return f"10.{octet}.{third}.{last}"

    def _mac(self, prefix: str) -> str:
        while True:
            # vCenter stays within 80-bf in the fourth byte; that range is fine for the others.
            tail = (self._rng.randrange(0x80, 0xC0), *(self._rng.randrange(256) for _ in range(2)))
            mac = ":".join((prefix, *(f"{byte:02x}" for byte in tail)))
            if mac not in self._macs:
                self._macs.add(mac)
                return mac


def _sequence(machine: Machine, network: _Network, rng: random.Random) -> Iterator[Row]:
    network.leave_gap(machine)
    here = f"{machine.department}/{machine.pool[:3]}"
    owners = OWNERS.get(here, OWNERS[machine.department])
    usual = _mostly_first(owners, rng)
    for i, number in enumerate(_numbers(machine, rng), start=1):
        row = _vm(machine, machine.pattern.format(number), network.place(machine), rng)
        row["owner"] = usual if _chance(85, rng) else rng.choice(owners)
        row["description"] = machine.description.format(i=i, n=machine.members)
        yield row


def _numbers(machine: Machine, rng: random.Random) -> Iterator[int]:
    """Count upwards; outside clusters a number is missing here and there."""
    number = 0
    for _ in range(machine.members):
        number += 2 if machine.cluster is None and number and _chance(10, rng) else 1
        yield number


def _vm(machine: Machine, name: str, place: Place, rng: random.Random) -> Row:
    site = SITES[machine.pool[:3]]
    system = rng.choice(machine.systems)
    vcpu, ram, disk = machine.size
    grown = machine.cluster is None and _chance(12, rng)
    row: Row = {
        "vm_name": name,
        "vm_tag": rng.choice(TAGS) if _chance(60, rng) else None,
        "description": None,
        "hypervisor": place.hypervisor,
        "cluster": machine.cluster,
        "datacenter": site.datacenter,
        "os_type": _os_type(system),
        "os_version": _mostly_first(SYSTEMS[system], rng),
        "hostname": f"{name.lower().replace('_', '-')}.{site.domain}",
        "ip_address": place.ip_address,
        "vlan": site.vlan.format(id=VLANS[machine.vlan], kind=machine.vlan),
        "mac_address": place.mac_address,
        "vcpu": vcpu,
        "ram_gb": ram * 2 if grown else ram,
        "disk_gb": disk + 50 * rng.randint(1, 4) if grown else disk,
        "power_state": "on",
        "environment": machine.environment,
        "status": "active",
        "owner": None,
        "department": DEPARTMENTS[machine.department],
        "application": machine.application,
        "expiry_date": None,
        "notes": None,
    }
    row["notes"] = _note(row, rng) if _chance(42, rng) else None
    return row


def _os_type(system: str) -> str:
    if system.startswith("w"):
        return "Windows"
    return "Other" if system == "bsd" else "Linux"


def _chance(percent: int, rng: random.Random) -> bool:
    return rng.randrange(100) < percent


def _mostly_first(choices: tuple[str, ...], rng: random.Random) -> str:
    return choices[0] if _chance(55, rng) else rng.choice(choices)


def _note(row: Row, rng: random.Random) -> str:
    special = NOTES.get(str(row["application"]), ())
    if special and _chance(50, rng):
        choices = special
    else:
        keys = ("", str(row["os_type"]), str(row["environment"]))
        choices = tuple(note for key in keys for note in NOTES.get(key, ()))
    return rng.choice(choices).format(ref=_ticket(rng), day=rng.choice(DAYS))


def _ticket(rng: random.Random) -> str:
    return f"CHG-{rng.randrange(2100, 6900)}"


def _retire(rows: list[Row], rng: random.Random) -> None:
    """Take some machines outside clusters out of use; half of the dead ones are off their host."""
    loose = [r for r in rows if r["cluster"] is None and r["department"] != "Infrastructure"]
    loose = [r for r in loose if r["vm_name"] not in STORIES]
    chosen = rng.sample(loose, 36)
    for row in chosen[:20]:
        row["status"] = "inactive"
    for row in chosen[20:]:
        row["status"] = "decommissioned"
    for row in chosen[28:]:
        row.update(hypervisor=None, ip_address=None, mac_address=None, vlan=None)


def _forget_owners(rows: list[Row], rng: random.Random) -> None:
    for row in rng.sample(rows, len(rows) * 6 // 100):
        row["owner"] = None


def _power_state(row: Row, rng: random.Random) -> str:
    if row["hypervisor"] is None:
        return "unknown"
    if row["status"] == "decommissioned" or row["vm_name"] in RETIRED:
        return "off"
    if row["status"] == "inactive":
        return rng.choice(("off", "off", "suspended"))
    if row["environment"] == "production":
        return "on"
    return rng.choices(("on", "off", "suspended", "unknown"), (86, 9, 3, 2))[0]


def _expire(rows: list[Row], today: date, rng: random.Random) -> None:
    """Give two thirds a date; what runs in production is the likeliest to have none."""
    active = [row for row in rows if row["status"] == "active"]
    active.sort(key=lambda row: rng.random() + 0.6 * (row["environment"] == "production"))
    dated = active[: len(rows) * 2 // 3]
    rng.shuffle(dated)
    days = [*OVERDUE, *SOON]
    days += [rng.randint(max(SOON) + 1, LAST_DAY) for _ in dated[len(days) :]]
    for row, offset in zip(dated, days, strict=True):
        row["expiry_date"] = today + timedelta(days=offset)


def _active(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["status"] == "active"]


def _power_changes(rows: list[Row], rng: random.Random) -> Iterator[tuple[str, Row]]:
    for row in rng.sample([r for r in _active(rows) if r["environment"] != "production"], 16):
        yield str(row["vm_name"]), {"power_state": "off" if row["power_state"] == "on" else "on"}


def _handovers(rows: list[Row], rng: random.Random) -> Iterator[tuple[str, Row]]:
    owners = {name: OWNERS[code] for code, name in DEPARTMENTS.items()}
    for row in rng.sample([r for r in _active(rows) if r["owner"] and r["department"]], 10):
        others = [name for name in owners[str(row["department"])] if name != row["owner"]]
        yield str(row["vm_name"]), {"owner": rng.choice(others)}


def _extensions(rows: list[Row], today: date, rng: random.Random) -> Iterator[tuple[str, Row]]:
    """Extend what ends within months; overdue and near dates stay for the dashboard to show."""
    first, last = today + timedelta(max(SOON) + 1), today + timedelta(200)
    dated = [(str(row["vm_name"]), row["expiry_date"]) for row in rows]
    ending = [(name, end) for name, end in dated if isinstance(end, date) and first <= end <= last]
    for name, end in rng.sample(ending, 12):
        yield name, {"expiry_date": end + timedelta(rng.choice((90, 180, 365)))}


REMARKS = (
    "Agent reinstalled after {ref}, reports again.",
    "Kernel panic on {day}, memory test clean. Watch it.",
    "Moved to another host for the firmware round, {ref}.",
    "Owner confirmed on {day}: still needed.",
    "Certificate renewed, {ref}.",
    "Vulnerability scan finding closed with {ref}.",
)


def _remarks(rows: list[Row], rng: random.Random) -> Iterator[tuple[str, Row]]:
    for row in rng.sample(_active(rows), 14):
        line = rng.choice(REMARKS).format(ref=_ticket(rng), day=rng.choice(DAYS))
        before = row["notes"]
        yield str(row["vm_name"]), {"notes": f"{before}\n{line}" if before else line}


def _moves(rows: list[Row], rng: random.Random) -> Iterator[tuple[str, Row]]:
    """Renumber a few machines into the part of their network that is never dealt out."""
    numbered = [row for row in _active(rows) if str(row["ip_address"]).startswith("10.")]
    for last, row in enumerate(rng.sample(numbered, 6), start=240):
        network = str(row["ip_address"]).rpartition(".")[0]
        yield str(row["vm_name"]), {"ip_address": f"{network}.{last}"}


def _upgrades(rows: list[Row], rng: random.Random) -> Iterator[tuple[str, Row]]:
    for row in rng.sample(_active(rows), 4):
        yield str(row["vm_name"]), {"ram_gb": int(str(row["ram_gb"])) * 2}
