def test_smoke(operator, reader, anonymous):
    made = operator.api.post("/api/vms", json={"vm_name": "web-01", "department": "Finance"})
    assert made.status_code == 201, made.text
    n = made.json()["id"]
    assert operator.api.get(f"/api/vms/{n}").headers["etag"] == '"v1"'
    assert reader.api.get("/api/vms").json()["total"] == 1
    page = operator.panel.get("/admin/vm/list")
    assert page.status_code == 200, page.text
    for path in ("/admin/", f"/admin/vm/details/{n}", f"/admin/vm/edit/{n}", "/admin/vm/create", "/admin/hypervisor/list", "/admin/hypervisor/create"):
        got = operator.panel.get(path)
        assert got.status_code == 200, (path, got.text)
    saved = operator.panel.post("/admin/vm/create", data={"vm_name": "web-02", "status": "active", "power_state": "on"})
    assert saved.status_code == 303, saved.text
    assert anonymous.get("/admin/").status_code == 303
def test_admin(admin):
    for path in ("/admin/user/list","/admin/user/create","/admin/user/details/1","/admin/user/edit/1","/admin/audit/list","/admin/audit/details/1","/admin/trash/list"):
        got = admin.panel.get(path)
        assert got.status_code == 200, (path, got.text)
